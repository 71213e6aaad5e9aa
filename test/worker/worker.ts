/** A worker for tests. */
import { TandemError } from '../../src/errors.js'
import { answerCalls } from '../../src/worker/answer-calls.js'

export interface Commands {
  echo: { input: unknown; output: unknown }
  refuse: { input: { tandem: boolean }; output: null }
  later: { input: { ms: number; value: number }; output: number }
  /** Blocks the process, as native code does. */
  block: { input: { ms: number }; output: null }
  die: { input: null; output: null }
  surroundings: {
    input: null
    output: { environment: Record<string, string | undefined>; stdin: boolean }
  }
}

answerCalls<Commands>({
  echo: (input) => input,
  refuse: ({ tandem }) => {
    throw tandem
      ? new TandemError('image_unreadable', 'It is cut off.')
      : new Error('It cannot be done.')
  },
  later: ({ ms, value }) => new Promise((resolve) => setTimeout(resolve, ms, value)),
  block: ({ ms }) => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
    return null
  },
  die: () => process.abort(),
  surroundings: () => ({
    environment: process.env,
    stdin: process.stdin.readable && !process.stdin.readableEnded,
  }),
})
