import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'

/**
 * Resident memory of a process in bytes, with the pages that it shares; 0 for a process that has
 * ended.
 */
export async function residentBytes(pid: number): Promise<number> {
  try {
    const kibibytes =
      process.platform === 'linux'
        ? /^VmRSS:\s*(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]
        : (await promisify(execFile)('ps', ['-o', 'rss=', '-p', String(pid)])).stdout
    return Number(kibibytes ?? 0) * 1024
  } catch {
    return 0
  }
}
