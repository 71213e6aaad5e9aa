/** A worker for tests: it answers, refuses, dies, hangs and tells what it has of its parent. */
import { TandemError } from '../../src/errors.js'
import { answerCalls } from '../../src/worker/worker-process.js'

export interface Commands {
  echo: { ask: unknown; answer: unknown }
  refuse: { ask: { tandem: boolean }; answer: null }
  later: { ask: { ms: number; value: number }; answer: number }
  /** Blocks the process, as native code does. */
  block: { ask: { ms: number }; answer: null }
  die: { ask: null; answer: null }
  surroundings: {
    ask: null
    answer: { environment: Record<string, string | undefined>; stdin: boolean }
  }
}

answerCalls<Commands>({
  echo: (ask) => ask,
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
