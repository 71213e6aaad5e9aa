/**
 * Temporary folders named after the process that made them, so that the next one can remove those
 * of killed processes.
 */
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** A folder whose process is unknown, or seems to live, is removed when it is this old. */
const OLD_MS = 24 * 60 * 60 * 1000
/** In a container, the process before this one may have had the same id. */
const startedAt = Date.now() - process.uptime() * 1000

/** The start of a name for `mkdtemp`: `prefix`, the id of this process, and a dash. */
export function nameWithProcess(prefix: string): string {
  return `${prefix}${process.pid}-`
}

/** Removes folders of dead processes from `root`. Ignores failures: the next start tries again. */
export async function removeLeftFolders(root: string, prefix: string): Promise<void> {
  const names = await readdir(root).catch(() => [])
  for (const name of names.filter((each) => each.startsWith(prefix))) {
    const folder = join(root, name)
    try {
      if (isLeft(name.slice(prefix.length), (await stat(folder)).mtimeMs))
        await rm(folder, { recursive: true, force: true })
    } catch {
      // It was removed meanwhile, or belongs to another user.
    }
  }
}

/** @param rest - of the name, after the prefix */
function isLeft(rest: string, modifiedAt: number): boolean {
  if (Date.now() - modifiedAt > OLD_MS) return true
  const pid = Number(/^(\d+)-/.exec(rest)?.[1])
  if (!Number.isInteger(pid)) return false
  return pid === process.pid ? modifiedAt < startedAt : !isAlive(pid)
}

/** Whether there is a process with this id, also of another user. */
export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
