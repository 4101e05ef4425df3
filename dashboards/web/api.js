// Asks the collector. An answer is a value in every case, never an exception:
// {ok: true, data, date} or {ok: false, kind: 'unreachable' | 'refused' | 'cancelled', status?, detail}.

const TIMEOUT_MS = 4000;

export async function ask(path, cancel) {
  const signal = AbortSignal.any([cancel, AbortSignal.timeout(TIMEOUT_MS)]);
  try {
    // A hint's ETag stands for its meaning, not its figures: a 304 from the browser's cache would freeze the figures.
    const response = await fetch(`api/v1/${path}`, { signal, cache: 'no-store', headers: { accept: 'application/json' } });
    if (!response.ok) return refused(response.status, await problemDetail(response));
    return { ok: true, data: await response.json(), date: Date.parse(response.headers.get('date')) };
  } catch (error) {
    if (cancel.aborted) return { ok: false, kind: 'cancelled', detail: 'no longer wanted' };
    if (error instanceof SyntaxError) return refused(200, 'the answer is not JSON');
    const late = error.name === 'TimeoutError';
    return { ok: false, kind: 'unreachable', detail: late ? `no answer within ${TIMEOUT_MS / 1000} s` : 'no connection' };
  }
}

const refused = (status, detail) => ({ ok: false, kind: 'refused', status, detail });

async function problemDetail(response) {
  const problem = await response.json().catch(() => null);
  return problem?.detail ?? problem?.title ?? (response.statusText || 'no reason given');
}

/**
 * One round of questions. What an earlier picture already tells (which services, which sources) is used at once, so
 * that all questions leave together; the first round waits for each in turn.
 */
export async function askAll(last, pickService, pickSource, cancel) {
  const regions = ask('regions', cancel);
  const agents = ask('agents', cancel);
  const service = pickService(last.regions.data ?? (await regions).data);
  const matrix = service ? ask(`matrix?service=${encodeURIComponent(service)}&window=30s`, cancel) : null;
  const known = last.matrix.data?.service === service ? last.matrix.data : (await matrix)?.data;
  const source = pickSource(known);
  const hints = source ? ask(`hints/${encodeURIComponent(source)}/${encodeURIComponent(service)}`, cancel) : null;
  return { regions: await regions, agents: await agents, matrix: await matrix, hints: await hints };
}
