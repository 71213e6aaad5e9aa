/** The worker's side: answers the service's calls for as long as the service lives. */
import { TandemError, type ErrorCode } from '../errors.js'
import type { Commands } from './child.js'

export interface Question {
  number: number
  name: string
  ask: unknown
}

export type Reply =
  | { number: number; answer: unknown }
  | { number: number; failure: { code: ErrorCode | null; message: string } }

/** The number of the reply that nobody asked for: from now on there are answers. */
export const HELLO = 0

export type Handlers<C extends Commands<C>> = {
  [Name in keyof C]: (ask: C[Name]['ask']) => C[Name]['answer'] | Promise<C[Name]['answer']>
}

/**
 * Begins to answer. The handlers are called in the order of the calls, one beginning as soon as it
 * has come.
 */
export function answerCalls<C extends Commands<C>>(handlers: Handlers<C>): void {
  // Ctrl-C reaches every process of a terminal: the service is the one to decide, and answers what
  // it accepted first.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
  // The service has ended, or wants this process to. A worker has nothing to lose, and native code
  // that is in the middle of something is better killed than torn down around it.
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
  process.on('message', (question: Question) => answer(handlers, question))
  send({ number: HELLO, answer: null })
}

function answer<C extends Commands<C>>(
  handlers: Handlers<C>,
  { number, name, ask }: Question,
): void {
  const fail = (error: Error): void => {
    const code = error instanceof TandemError ? error.code : null
    send({ number, failure: { code, message: error.message } })
  }
  try {
    const answered: unknown = handlers[name as keyof C](ask)
    if (answered instanceof Promise)
      answered.then((later: unknown) => send({ number, answer: later }), fail)
    // Sent before the next call begins, which may block.
    else send({ number, answer: answered })
  } catch (error) {
    fail(error as Error)
  }
}

/** Nobody is left to hear of a reply that cannot be sent. */
function send(reply: Reply): void {
  process.send?.(reply, undefined, undefined, () => undefined)
}
