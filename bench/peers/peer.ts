/** A peer: another service with the same graphs and tokenizer, run as a process of its own. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import { freePort } from '../../test/support/free-port.js'
import type { Asked } from '../load.js'
import type { Workload } from './workloads.js'

/**
 * How a peer divides the cores: processes that share its port, runs at a time in each, threads of
 * one run.
 */
export interface Division {
  processes: number
  atOnce: number
  threads: number
}

/** What there is to search: a graph of hnswlib, a JSON list of its items, the beam of a search. */
export interface Searched {
  index: string
  items: string
  ef: number
}

export interface PeerKind {
  name: string
  title: string
  /** Those that are tried; the best one is kept for each workload. */
  divisions: readonly Division[]
  /** What it can be asked; everything, where nothing is said. */
  workloads?: readonly Workload['name'][]
  /** A request in the peer's own words, where they are others. */
  translated?: (asked: Asked) => Asked
  /** The program with its arguments, and settings beside those that every peer gets. */
  command: (
    port: number,
    division: Division,
  ) => { program: string; args: readonly string[]; environment?: Record<string, string> }
}

const here = join(packageFolder, 'bench', 'peers')
/** Ways to use two cores: in each run, by runs side by side, by processes side by side. */
const DIVISIONS: readonly Division[] = [
  { processes: 1, atOnce: 1, threads: 2 },
  { processes: 1, atOnce: 2, threads: 1 },
  { processes: 2, atOnce: 1, threads: 1 },
]
const READY_MS = 60_000
const POLL_MS = 50

/** @param programs - of the environment that has its packages */
export function fastapi(programs: string): PeerKind {
  return {
    name: 'fastapi',
    title: 'FastAPI, onnxruntime, hnswlib, Pillow',
    divisions: DIVISIONS,
    command: (port, { processes }) => ({
      program: join(programs, 'python'),
      args: [
        '-m',
        'uvicorn',
        'fastapi_app:app',
        '--app-dir',
        here,
        '--host',
        '127.0.0.1',
        '--port',
        String(port),
        '--workers',
        String(processes),
        '--log-level',
        'warning',
        '--no-access-log',
      ],
      // OpenMP and BLAS of NumPy are not used here, so they get one thread.
      environment: { OMP_NUM_THREADS: '1' },
    }),
  }
}

export const fastify: PeerKind = {
  name: 'fastify',
  title: 'fastify, onnxruntime-node, hnswlib-node, sharp',
  // A run blocks the process, so there is one at a time.
  divisions: DIVISIONS.filter(({ atOnce }) => atOnce === 1),
  command: (port) => ({
    program: process.execPath,
    args: [
      '--import',
      join(packageFolder, 'test', 'support', 'run-source.mjs'),
      join(here, 'fastify-server.ts'),
    ],
    environment: { PORT: String(port) },
  }),
}

/**
 * Serves texts alone: what it can make of photos are models of the CLIP family, and the bundle is
 * none.
 * @param programs - of the environment that has its packages
 */
export function infinity(programs: string, bundle: string): PeerKind {
  const model = join(tmpdir(), 'tandem-bench', 'infinity-model')
  execFileSync(join(programs, 'python'), [join(here, 'sentence_graph.py'), bundle, model], {
    stdio: ['ignore', 2, 2],
  })
  return {
    name: 'infinity',
    title: 'infinity, optimum, onnxruntime',
    workloads: ['text'],
    translated: (asked) => {
      const { inputs } = JSON.parse(String(asked.body)) as { inputs: { text: string }[] }
      return {
        ...asked,
        path: '/embeddings',
        body: Buffer.from(
          JSON.stringify({ model: 'infinity-model', input: inputs.map(({ text }) => text) }),
        ),
      }
    },
    // It batches by itself, and leaves the threads to the runtime.
    divisions: [{ processes: 1, atOnce: 1, threads: 2 }],
    command: (port) => ({
      program: join(programs, 'infinity_emb'),
      args: [
        'v2',
        '--model-id',
        model,
        '--engine',
        'optimum',
        '--device',
        'cpu',
        '--pooling-method',
        'cls',
        '--no-bettertransformer',
        '--no-model-warmup',
        '--host',
        '127.0.0.1',
        '--port',
        String(port),
        '--log-level',
        'warning',
      ],
      environment: {
        HF_HUB_OFFLINE: '1',
        DO_NOT_TRACK: '1',
        INFINITY_ANONYMOUS_USAGE_STATS: '0',
        HOME: tmpdir(),
      },
    }),
  }
}

export class Peer {
  readonly address: string
  readonly pid: number
  readonly #process: ChildProcess

  private constructor(address: string, child: ChildProcess) {
    this.address = address
    this.#process = child
    this.pid = child.pid ?? 0
  }

  /** Resolves when it answers. */
  static async start(
    kind: PeerKind,
    division: Division,
    bundle: string,
    searched?: Searched,
  ): Promise<Peer> {
    const port = await freePort()
    const { program, args, environment = {} } = kind.command(port, division)
    const { processes, atOnce, threads } = division
    const toSearch =
      searched === undefined
        ? {}
        : { INDEX: searched.index, ITEMS: searched.items, EF: String(searched.ef) }
    const divided = {
      PROCESSES: String(processes),
      AT_ONCE: String(atOnce),
      THREADS: String(threads),
    }
    const { PATH } = process.env
    // In a group of its own, so that the processes it starts end with it.
    const child = spawn(program, args, {
      env: { PATH, BUNDLE: bundle, ...divided, ...toSearch, ...environment },
      stdio: ['ignore', 2, 2],
      detached: true,
    })
    const peer = new Peer(`http://127.0.0.1:${port}`, child)
    try {
      await peer.#ready(kind.name)
    } catch (error) {
      await peer.stop()
      throw error
    }
    return peer
  }

  async #ready(name: string): Promise<void> {
    const until = performance.now() + READY_MS
    while (
      !(await fetch(`${this.address}/health`).then(
        ({ ok }) => ok,
        () => false,
      ))
    ) {
      if (!this.#alive) throw new Error(`the peer ${name} ended before it answered`)
      if (performance.now() > until)
        throw new Error(`the peer ${name} did not answer within ${READY_MS / 1000} s`)
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }

  get #alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null
  }

  /** Nothing of a peer is to be kept. */
  async stop(): Promise<void> {
    if (!this.#alive || this.pid === 0) return
    const ended = once(this.#process, 'exit')
    process.kill(-this.pid, 'SIGKILL')
    await ended
  }
}
