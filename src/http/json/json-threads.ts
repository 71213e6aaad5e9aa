/** Threads that read large JSON bodies, so that no body blocks the event loop. */
import { Worker } from 'node:worker_threads'
import { Limiter, type TaskOptions } from '../../async/limiter.js'
import { TandemError } from '../../errors.js'
import { hasMoreValues, isNestedDeeper, JsonTextError, parsedJsonText } from './json-text.js'
import { JsonAssembly, MAX_DEPTH } from './json-pieces.js'
import type { Message, Question, Reply } from './json-thread.js'
import { LongStrings } from './long-strings.js'
import { utf8Text } from '../utf8.js'

export interface Json {
  /** With stand-ins for long strings. */
  value: unknown
  longStrings: LongStrings
}

/** Smaller texts take the event loop some milliseconds; a thread would take longer in all. */
const MAX_INLINE = 262_144
/** As above: a value takes longer than a character. */
const MAX_INLINE_VALUES = 5000
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
    if (bytes.length <= MAX_INLINE) {
      const text = utf8Text(bytes, place)
      const isQuick = text.length <= MAX_INLINE_VALUES || !hasMoreValues(text, MAX_INLINE_VALUES)
      // A thread takes no deep one, and its route says what is wrong with it.
      if (isQuick || isNestedDeeper(text, MAX_DEPTH))
        return { value: parsedJsonText(text), longStrings: LongStrings.none }
    }
    return this.#turns.run(() => this.#ask({ bytes, place }), task)
  }

  close(): void {
    for (const thread of this.#idle.keys()) this.#end(thread)
  }

  async #ask(question: Question): Promise<Json> {
    const thread = this.#take()
    const json = await jsonFrom(thread, question)
    const timer = setTimeout(() => this.#end(thread), IDLE_MS).unref()
    this.#idle.set(thread, timer)
    thread.unref()
    if (!('failure' in json)) return json
    const { code, message } = json.failure
    throw code === null ? new JsonTextError(message) : new TandemError(code, message)
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

/** Builds the value from the replies, and gives the event loop a turn after each. */
function jsonFrom(
  thread: Worker,
  question: Question,
): Promise<Json | Extract<Reply, { failure: unknown }>> {
  const assembly = new JsonAssembly()
  const tell = (message: Message, transfer: ArrayBuffer[] = []): void =>
    thread.postMessage(message, transfer)
  return new Promise((resolve, reject) => {
    const settle = (settled: () => void): void => {
      thread.off('message', answer).off('error', fail)
      settled()
    }
    const answer = (reply: Reply): void => {
      if ('piece' in reply) {
        assembly.add(reply.piece)
        setImmediate(tell, 'next')
      } else if ('failure' in reply) settle(() => resolve(reply))
      else {
        const { value } = assembly
        const longStrings = new LongStrings(reply.longStrings, reply.fieldBytes)
        settle(() => resolve({ value, longStrings }))
      }
    }
    const fail = (error: Error): void => settle(() => reject(error))
    thread.on('message', answer).on('error', fail)
    tell(question, [question.bytes.buffer as ArrayBuffer])
  })
}
