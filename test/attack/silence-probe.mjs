/**
 * Loaded into the main process with --import. At SIGUSR2 it writes the longest delay of the event
 * loop since the last signal, in milliseconds, to the file that SILENCE_FILE names.
 */
import { renameSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const file = process.env.SILENCE_FILE
// Workers inherit the option, and not the variable.
if (isMainThread && file !== undefined) {
  const delays = monitorEventLoopDelay({ resolution: 1 })
  delays.enable()
  process.on('SIGUSR2', () => {
    writeFileSync(`${file}.new`, String(delays.max / 1e6))
    renameSync(`${file}.new`, file)
    delays.reset()
  })
}
