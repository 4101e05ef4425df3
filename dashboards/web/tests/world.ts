// A planet, a collector and an agent in each region: the real binaries, ended by their own process ids.
//
// ISOCHRONE_PROGRAMS says where the binaries are; without it, those of a plain `cargo build`.

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

const PROGRAMS = process.env.ISOCHRONE_PROGRAMS ?? new URL('../../../target/debug', import.meta.url).pathname;
const DRAIN_MS = 12_000;
/** Half of the usual: twice as soon is everything seen. */
const WINDOW = '5s';

export class World {
  readonly url: string;
  #dir: string;
  #control = '';
  #processes = new Map<string, ChildProcess>();

  private constructor(dir: string, port: number) {
    this.#dir = dir;
    this.url = `http://127.0.0.1:${port}`;
  }

  /** The planet and the collector; agents start when they are told to. */
  static async start(regions: number): Promise<World> {
    const world = new World(mkdtempSync(join(tmpdir(), 'isochrone-web-')), await freePort());
    try {
      const address = join(world.#dir, 'planet.address');
      world.#run('planet', 'isochrone-planet', ['run', `--regions=${regions}`, '--control=127.0.0.1:0', `--collector=${world.url}`, `--write-config=${world.#dir}`, `--address-file=${address}`]);
      await until('the planet to be ready', 30_000, () => {
        world.#standing('planet');
        return world.#log('planet').split('\n').includes('ready');
      });
      world.#control = `http://${readFileSync(address, 'utf8').trim()}`;
      for (const file of world.#configs()) writeFileSync(file, `window = "${WINDOW}"\n${readFileSync(file, 'utf8')}`);
      await world.startCollector();
      return world;
    } catch (error) {
      await world.stop();
      throw error;
    }
  }

  async startCollector(): Promise<void> {
    this.#run('collector', 'isochrone-collector', ['run', '--config', join(this.#dir, 'collector.toml')]);
    await until('the collector to answer', 30_000, async () => (await fetch(`${this.url}/livez`).catch(() => null))?.ok);
  }

  /** No goodbye. */
  async killCollector(): Promise<void> {
    await this.#end('collector', 'SIGKILL');
  }

  startAgents(): void {
    for (const file of this.#configs()) {
      const name = basename(file, '.toml');
      if (name.startsWith('agent-')) this.#run(name, 'isochrone-agent', ['run', '--config', file]);
    }
  }

  async stopAgents(): Promise<void> {
    await Promise.all([...this.#processes.keys()].filter(name => name.startsWith('agent-')).map(name => this.#end(name, 'SIGTERM')));
  }

  async break(fault: Record<string, unknown>): Promise<void> {
    const answer = await fetch(`${this.#control}/faults`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(fault) });
    if (!answer.ok) throw new Error(`fault ${JSON.stringify(fault)}: ${answer.status} ${await answer.text()}`);
  }

  /** Agents first, so that they can hand over what they hold. */
  async stop(): Promise<void> {
    await this.stopAgents();
    await Promise.all([...this.#processes.keys()].map(name => this.#end(name, 'SIGTERM')));
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #run(name: string, program: string, args: string[]): void {
    const log = openSync(join(this.#dir, `${name}.log`), 'a');
    const child = spawn(join(PROGRAMS, program), args, { stdio: ['ignore', log, log] });
    // Who could not be started has no process id; whoever waits for it says so.
    child.on('error', () => undefined);
    this.#processes.set(name, child);
    this.#standing(name);
  }

  async #end(name: string, signal: NodeJS.Signals): Promise<void> {
    const child = this.#processes.get(name);
    this.#processes.delete(name);
    if (!child?.pid || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise(resolve => child.once('exit', resolve));
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), DRAIN_MS);
    await ended;
    clearTimeout(late);
  }

  /** What the planet has written. */
  #configs(): string[] {
    return readdirSync(this.#dir).filter(file => file.endsWith('.toml')).map(file => join(this.#dir, file));
  }

  /** Fails as soon as it has ended, with what it logged. */
  #standing(name: string): void {
    const child = this.#processes.get(name);
    if (!child?.pid) throw new Error(`${name} is not built in ${PROGRAMS}; \`cargo xtask test\` builds it`);
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}:\n${this.#log(name)}`);
  }

  #log(name: string): string {
    return readFileSync(join(this.#dir, `${name}.log`), 'utf8');
  }
}

/** Tries again until it holds or the deadline has passed. */
export async function until(what: string, withinMs: number, holds: () => unknown): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${withinMs / 1000} s`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => (address && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port'))));
    });
  });
}
