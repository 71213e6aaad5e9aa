/** Threads that read large JSON bodies, so that no body blocks the event loop. */
import { Worker } from 'node:worker_threads'
import { Limiter, type TaskOptions } from '../../async/limiter.js'
import { TandemError } from '../../errors.js'
import { JsonTextError, parsedJsonText } from '../json-text.js'
import type { Question, Reply } from './json-thread.js'
import { LongStrings } from './long-strings.js'
import { utf8Text } from '../utf8.js'

export interface Json {
  /** With stand-ins for long strings. */
  value: unknown
  longStrings: LongStrings
}

/** Smaller texts take the event loop some milliseconds; a thread would take longer in all. */
const MAX_INLINE = 262_144
/** Clients take turns at 0.2 s for a body of 20 MB. More threads would take memory. */
const THREADS = 1
/** Its memory returns with its end. */
const IDLE_MS = 5000

export class JsonThreads {
  readonly #turns = new Limiter(THREADS)
  readonly #idle = new Map<Worker, NodeJS.Timeout>()

  /**
   * The value of a JSON text in UTF-8. Large ones are handed over to a thread: `bytes`, which must
   * have a buffer of their own, are empty then.
   *
   * @param place - of the text, in errors
   * @throws TandemError text_unreadable; JsonTextError; the reason of the signal
   */
  async parse(bytes: Buffer, place: string, task: TaskOptions): Promise<Json> {
    if (bytes.length <= MAX_INLINE)
      return { value: parsedJsonText(utf8Text(bytes, place)), longStrings: LongStrings.none }
    const reply = await this.#turns.run(() => this.#ask({ bytes, place }), task)
    if (!('failure' in reply))
      return { value: reply.value, longStrings: new LongStrings(reply.longStrings) }
    const { code, message } = reply.failure
    throw code === null ? new JsonTextError(message) : new TandemError(code, message)
  }

  close(): void {
    for (const thread of this.#idle.keys()) this.#end(thread)
  }

  async #ask(question: Question): Promise<Reply> {
    const thread = this.#take()
    const reply = await new Promise<Reply>((resolve, reject) => {
      const settle = (settled: () => void): void => {
        thread.off('message', answer).off('error', fail)
        settled()
      }
      const answer = (message: Reply): void => settle(() => resolve(message))
      const fail = (error: Error): void => settle(() => reject(error))
      thread.on('message', answer).on('error', fail)
      thread.postMessage(question, [question.bytes.buffer as ArrayBuffer])
    })
    const timer = setTimeout(() => this.#end(thread), IDLE_MS).unref()
    this.#idle.set(thread, timer)
    thread.unref()
    return reply
  }

  #take(): Worker {
    const [idle] = this.#idle
    if (idle === undefined) return new Worker(new URL('./json-thread.js', import.meta.url))
    const [thread, timer] = idle
    clearTimeout(timer)
    this.#idle.delete(thread)
    thread.ref()
    return thread
  }

  #end(thread: Worker): void {
    clearTimeout(this.#idle.get(thread))
    this.#idle.delete(thread)
    void thread.terminate()
  }
}
