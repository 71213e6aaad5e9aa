/**
 * Loaded into the main process with --import. At SIGUSR2 it does what the file
 * `${PROBE_FILE}.question` asks for, and writes the answer to the file that PROBE_FILE names:
 *
 * - `delay`: the longest delay of the event loop since the last question, in milliseconds;
 * - `collect`: collects garbage of the main thread, which V8 keeps while a process is idle.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { isMainThread } from 'node:worker_threads'

const file = process.env.PROBE_FILE
// Workers inherit the option, and not the variable.
if (isMainThread && file !== undefined) {
  const delays = monitorEventLoopDelay({ resolution: 1 })
  delays.enable()
  process.on('SIGUSR2', () => {
    const isCollection = readFileSync(`${file}.question`, 'utf8') === 'collect'
    if (isCollection) collectGarbage()
    writeFileSync(`${file}.new`, isCollection ? '' : String(delays.max / 1e6))
    renameSync(`${file}.new`, file)
    delays.reset()
  })
}

function collectGarbage() {
  // As an option of Node it would be inherited by the workers.
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  setFlagsFromString('--no-expose-gc')
}
