/**
 * Tells a process that hangs from one that computes for long: native code blocks the event loop of
 * a worker, so a worker cannot answer a ping. Its CPU time tells: a process with calls to answer
 * that uses none is stopped or in a deadlock.
 */
import { readFileSync } from 'node:fs'

const INTERVAL_MS = 1000
/** Looks in a row without progress after which a process counts as hung: seconds. */
const LIMIT = 10
/** The same of a stopped process, which makes none for sure. */
const STOPPED_LIMIT = 5

/** Fields of /proc/PID/stat after the name, which may contain spaces and parentheses. */
const STATE = 0
const UTIME = 11
const STIME = 12

/**
 * Does nothing where there is no /proc (macOS): there only the limits of calls end a hung process.
 *
 * @param isBusy - whether the process has calls to answer
 * @param onHang - called once
 * @returns stops watching
 */
export function watchForHang(pid: number, isBusy: () => boolean, onHang: () => void): () => void {
  let last = ''
  // Looks of this process: if both processes are suspended, the worker has not hung.
  let idleLooks = 0
  let stoppedLooks = 0
  if (process.platform !== 'linux') return () => undefined
  const timer = setInterval(() => {
    const stat = statOf(pid)
    if (stat === null) return
    const { state, cpu } = stat
    // R waits for a processor, D for a disk, which may be slow; t is held by a debugger.
    const mayStand = ['R', 'D', 't'].includes(state)
    stoppedLooks = state === 'T' ? stoppedLooks + 1 : 0
    idleLooks = isBusy() && cpu === last && !mayStand ? idleLooks + 1 : 0
    last = cpu
    if (idleLooks < LIMIT && stoppedLooks < STOPPED_LIMIT) return
    clearInterval(timer)
    onHang()
  }, INTERVAL_MS).unref()
  return () => clearInterval(timer)
}

function statOf(pid: number): { state: string; cpu: string } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return { state: fields[STATE] ?? '', cpu: `${fields[UTIME]} ${fields[STIME]}` }
  } catch {
    return null
  }
}
