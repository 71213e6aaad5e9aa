/** The main thread's side of hnsw-worker.ts: a call for every command. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { CommandName, Commands, Reply } from './hnsw-worker.js'

interface Waiting {
  resolve: (answer: never) => void
  reject: (error: Error) => void
}

export class HnswThread {
  readonly #worker = new Worker(new URL('./hnsw-worker.js', import.meta.url))
  readonly #waiting = new Map<number, Waiting>()
  #calls = 0
  #ended: Error | null = null

  constructor() {
    this.#worker.on('message', (reply: Reply) => {
      const waiting = this.#waiting.get(reply.number)
      this.#waiting.delete(reply.number)
      if ('error' in reply) waiting?.reject(new Error(`The HNSW graph refused: ${reply.error}`))
      else waiting?.resolve(reply.answer as never)
    })
    this.#worker.on('error', (error: Error) => this.#end(error))
    this.#worker.on('exit', () => this.#end(new Error('The thread of the vector index has ended.')))
  }

  /** Answers are in the order of the calls. @throws Error when the graph refuses or the thread ends */
  call<Name extends CommandName>(
    name: Name,
    ask: Commands[Name]['ask'],
    transfer: ArrayBuffer[] = [],
  ): Promise<Commands[Name]['answer']> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== null) throw this.#ended
      const number = (this.#calls += 1)
      this.#waiting.set(number, { resolve, reject })
      this.#worker.postMessage({ number, name, ask }, transfer)
    })
  }

  /** Asks rather than terminates: a thread that is ended inside native code can take the process with it. */
  async close(): Promise<void> {
    if (this.#ended !== null) return
    const ended = once(this.#worker, 'exit')
    await this.call('close', null)
    await ended
  }

  #end(error: Error): void {
    this.#ended ??= error
    for (const { reject } of this.#waiting.values()) reject(this.#ended)
    this.#waiting.clear()
  }
}
