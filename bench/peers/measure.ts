/** Loads put on services that are compared, and what came back. */
import { quantile } from '../../test/soak/figures.js'
import { Load, type Answer, type Asked } from '../load.js'

/** A service under load, with the requests that it is sent. */
export interface Side {
  address: string
  /** Request `at` of an endless row. */
  asked: (at: number) => Asked
}

/**
 * What was offered (nothing in a closed loop) and what came back, a second; milliseconds of what
 * was answered.
 */
export interface Loaded {
  offered: number | null
  answered: number
  p50: number
  p99: number
  /** Of all that was to be sent. Above 1 % the latencies of the rest say little. */
  failed: number
}

/** Several runs of one load, taken together. */
export class Sample {
  readonly #milliseconds: number[] = []
  #offered: number | null = null
  #seconds = 0
  #failed = 0

  /** So many clients, each asking again as soon as it is answered. */
  async closed(side: Side, clients: number, seconds: number): Promise<void> {
    await this.#run(side, seconds, (load, note) => load.closed(clients, seconds, note))
  }

  /** So many requests a second at random moments, until all of them are answered. */
  async open(side: Side, perSecond: number, seconds: number): Promise<void> {
    this.#offered = perSecond
    await this.#run(side, seconds, async (load, note) => {
      this.#failed += await load.open(perSecond, seconds, note)
    })
  }

  read(): Loaded {
    const { length } = this.#milliseconds
    const rounded = (value: number): number => Math.round(value * 100) / 100
    return {
      offered: this.#offered === null ? null : rounded(this.#offered),
      answered: rounded(length / this.#seconds),
      p50: rounded(quantile(this.#milliseconds, 0.5)),
      p99: rounded(quantile(this.#milliseconds, 0.99)),
      failed: this.#failed / (length + this.#failed),
    }
  }

  async #run(
    { address, asked }: Side,
    seconds: number,
    put: (load: Load<Asked>, note: (asked: Asked, answer: Answer) => void) => Promise<void>,
  ): Promise<void> {
    let at = 0
    const load = new Load(address, () => asked(at++))
    const begun = performance.now()
    await put(load, (_asked, { status, milliseconds }) => {
      if (status === 200) this.#milliseconds.push(milliseconds)
      else this.#failed += 1
    })
    // What is answered after the end of an open loop was not answered at the rate that was offered.
    this.#seconds += Math.max(seconds, (performance.now() - begun) / 1000)
    load.close()
  }
}
