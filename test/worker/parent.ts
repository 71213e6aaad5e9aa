/** A parent process for tests: prints the pid of its worker during a call that blocks. */
import { WorkerProcess } from '../../src/worker/worker-process.js'
import type { Commands } from './worker.js'

const worker = await WorkerProcess.start<Commands>({
  name: 'test',
  module: new URL('./worker.js', import.meta.url),
  code: 'internal_error',
  subject: 'The test',
})
await worker.call('echo', 1)
void worker.call('block', { ms: Number(process.argv[2]) })
process.stdout.write(`${worker.status.pid}\n`)
