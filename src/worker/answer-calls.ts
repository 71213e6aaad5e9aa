/** The worker's side: answers calls until the service ends. */
import { TandemError } from '../errors.js'
import { HELLO, type Commands, type Question, type Reply } from './messages.js'

export type Handlers<C extends Commands<C>> = {
  [Name in keyof C]: (input: C[Name]['input']) => C[Name]['output'] | Promise<C[Name]['output']>
}

/** Starts to answer: calls the handlers in the order of the calls, without awaiting promises. */
export function answerCalls<C extends Commands<C>>(handlers: Handlers<C>): void {
  // Ctrl-C reaches every process of a terminal. The service decides when a worker ends, and gets
  // the replies to the calls that it has accepted.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
  // The service has ended, or wants this process to end. A worker has no state to save, and native
  // code that is running is safer to kill than to unload.
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
  process.on('message', (question: Question) => answer(handlers, question))
  send({ number: HELLO, output: null })
}

function answer<C extends Commands<C>>(
  handlers: Handlers<C>,
  { number, name, input }: Question,
): void {
  const fail = (error: Error): void => {
    const code = error instanceof TandemError ? error.code : null
    send({ number, failure: { code, message: error.message } })
  }
  try {
    const output: unknown = handlers[name as keyof C](input)
    if (output instanceof Promise)
      output.then((value: unknown) => send({ number, output: value }), fail)
    // Sent before the next call starts, which may block.
    else send({ number, output })
  } catch (error) {
    fail(error as Error)
  }
}

/** Ignores a failure to send: the service has ended. */
function send(reply: Reply): void {
  process.send?.(reply, undefined, undefined, () => undefined)
}
