// What the collector says, as its OpenAPI document has it.

export type CellState = 'ok' | 'slow' | 'lossy' | 'down' | 'unknown' | 'stale';
export type HealthName = 'healthy' | 'degraded' | 'down' | 'unknown';

export interface Region {
  region: string; service: string; health: HealthName; reason: string; since: string; vantages: { eligible: number; bad: number };
}
export interface Cell {
  service: string; source: string; region: string; state: CellState;
  p50_ms: number | null; p95_ms: number | null; p99_ms: number | null; loss: number | null; samples: number; age_s: number | null; reason: string;
}
export interface Ranked {
  region: string; rank: number; weight: number; cost_ms: number | null; cost_ci_ms: [number, number] | null;
  p50_ms: number | null; p75_ms: number | null; p95_ms: number | null; loss: number | null; jitter_ms: number | null; mos: number | null;
  samples: number; age_s: number | null; addresses: string[]; reason: string;
}
export interface Hint {
  source: string; service: string; epoch: string; version: number; generated_at: string; stale_after: string; valid_until: string;
  mode: 'shadow' | 'advise' | 'enforce';
  basis: 'measured' | 'last_known_good' | 'prior' | 'fail_open' | 'pinned' | 'frozen';
  ranked: Ranked[]; excluded: { region: string; reason: string }[];
  stability: { incumbent: string | null; since: string; challenger: string | null; margin_ms: number | null; wins: number };
}
export interface Agent {
  agent: string; region: string; version: string; last_seen: string; lateness_ms: { p99: number | null };
  spool: { batches: number; bytes: number }; gaps: number;
}
export interface Path {
  id: string; source: string; target: string; region: string; service: string; probe: string; phase: string; family: string; primary: boolean;
  state: CellState | null; p50_ms: number | null; p75_ms: number | null; p95_ms: number | null; p99_ms: number | null; loss: number | null;
  jitter_ms: number | null; samples: number; age_s: number;
}
export interface Matrix {
  service: string; sources: string[]; regions: string[]; state: CellState[]; p50_ms: (number | null)[]; p95_ms: (number | null)[];
  p99_ms: (number | null)[]; loss: (number | null)[]; samples: number[]; age_s: (number | null)[]; reason: string[]; as_of: string;
}
export interface List<T> { items: T[]; as_of: string }

/** An event of the stream. Its name is its topic. */
export interface StreamEvent { kind: 'snapshot' | 'change' | 'mark'; number: number; as_of: string; items: unknown[]; gone: string[] }
