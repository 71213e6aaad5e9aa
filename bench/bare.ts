/** The bare runtime on a number of cores: the baseline of the service. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { BareAnswer, BareAsk } from './bare/process.js'

export class Bare {
  readonly #processes: readonly ChildProcess[]

  private constructor(processes: readonly ChildProcess[]) {
    this.#processes = processes
  }

  /** @param threads - of the runtime in each process */
  static async open(bundle: string, processes: number, threads: number): Promise<Bare> {
    const module = new URL('./bare/process.ts', import.meta.url)
    const bare = new Bare(
      Array.from({ length: processes }, () => fork(module, { serialization: 'advanced' })),
    )
    await bare.#ask({ kind: 'open', bundle, threads })
    return bare
  }

  /** Texts per second in batches of `rows`, summed over the processes. */
  texts(texts: readonly string[], rows: number, seconds: number): Promise<number> {
    return this.#rate({ kind: 'texts', texts, rows, seconds })
  }

  /** Photos decoded and encoded per second, with or without the image to store. */
  photos(images: readonly Buffer[], seconds: number, isStored: boolean): Promise<number> {
    return this.#rate({ kind: 'photos', images, seconds, isStored })
  }

  /** Milliseconds to encode and search for each text, in the first process. */
  async queries(ask: Omit<Extract<BareAsk, { kind: 'queries' }>, 'kind'>): Promise<number[]> {
    const [answer] = await this.#ask({ kind: 'queries', ...ask }, this.#processes.slice(0, 1))
    return answer !== undefined && 'each' in answer ? answer.each : []
  }

  async close(): Promise<void> {
    await Promise.all(
      this.#processes.map(async (one) => {
        const ended = once(one, 'exit')
        one.disconnect()
        await ended
      }),
    )
  }

  async #rate(ask: BareAsk): Promise<number> {
    const answers = await this.#ask(ask)
    return answers.reduce(
      (sum, one) => sum + ('done' in one ? (1000 * one.done) / one.milliseconds : 0),
      0,
    )
  }

  #ask(ask: BareAsk, processes = this.#processes): Promise<BareAnswer[]> {
    return Promise.all(
      processes.map(async (one) => {
        one.send(ask)
        const [answer] = (await once(one, 'message')) as [BareAnswer]
        if ('failed' in answer) throw new Error(answer.failed)
        return answer
      }),
    )
  }
}
