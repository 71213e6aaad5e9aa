/**
 * Lock of a data folder: two processes would not see each other's items.
 *
 * The holder listens on a socket in the folder. The operating system closes it with the process,
 * also after kill -9, and no process id is needed, which containers reuse. A process first creates
 * its own socket and then asks the others; of two that start at once, at least one sees the other.
 * Sockets without a listener are remains of killed processes and are removed.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rm, type FileHandle } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Another process holds the folder; the message names it. */
export class DataFolderLockedError extends Error {
  override readonly name = 'DataFolderLockedError'
}

export interface DataFolderLock {
  /** Why the folder is not locked; null when it is. */
  remark: string | null
  release(): Promise<void>
}

/** Limit for the path of a socket on all supported systems. */
const MAX_PATH_BYTES = 100
/** Two processes that start at once may both give way; each tries again after a random time. */
const ATTEMPTS = 5
const ANSWER_MS = 1000
/** Error codes of file systems that cannot hold a socket, or are full. */
const NO_SOCKETS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'ENOSPC', 'EROFS'])

/**
 * Locks the folder, which is created if it is missing.
 *
 * @param holder - name of this process in the error of another one, such as "the service"
 * @throws DataFolderLockedError naming the process that holds it
 */
export async function lockDataFolder(folder: string, holder: string): Promise<DataFolderLock> {
  const sockets = join(folder, 'lock')
  await mkdir(sockets, { recursive: true })
  const place = await SocketFolder.open(sockets)
  try {
    for (let attempt = 1; ; attempt += 1) {
      const name = randomBytes(6).toString('hex')
      const server = await listen(place.address(name), introduction(holder))
      const other = await heldBy(place, name)
      if (other === null && (await place.names()).includes(name)) {
        return { remark: null, release: () => close(server).then(() => place.close()) }
      }
      await close(server)
      if (other !== null && attempt === ATTEMPTS) {
        throw new DataFolderLockedError(
          `The data folder ${folder} is in use by ${other}. Stop that first.`,
        )
      }
      await sleep(Math.random() * 40 * attempt)
    }
  } catch (error) {
    await place.close()
    const { code = '' } = error as NodeJS.ErrnoException
    if (!NO_SOCKETS.has(code)) throw error
    const remark = `${folder} cannot be locked (${code}): make sure that no other process uses it`
    return { remark, release: () => Promise.resolve() }
  }
}

/** The sockets of a folder. On Linux its path may be longer than that of a socket. */
class SocketFolder {
  private constructor(
    readonly path: string,
    readonly handle: FileHandle | undefined,
  ) {}

  static async open(path: string): Promise<SocketFolder> {
    const isLong = Buffer.byteLength(path) + 13 > MAX_PATH_BYTES
    return new SocketFolder(
      path,
      isLong && process.platform === 'linux' ? await open(path) : undefined,
    )
  }

  address(name: string): string {
    return join(this.handle === undefined ? this.path : `/proc/self/fd/${this.handle.fd}`, name)
  }

  names(): Promise<string[]> {
    return readdir(this.path)
  }

  remove(name: string): Promise<void> {
    return rm(join(this.path, name), { force: true })
  }

  async close(): Promise<void> {
    await this.handle?.close()
  }
}

/** @returns the process behind another socket, or null; removes sockets without a listener */
async function heldBy(place: SocketFolder, own: string): Promise<string | null> {
  for (const name of await place.names()) {
    if (name === own) continue
    const holder = await ask(place.address(name))
    if (holder !== null) return holder
    await place.remove(name)
  }
  return null
}

/** @returns the introduction of the process behind a socket; null without a listener */
function ask(address: string): Promise<string | null> {
  return new Promise((resolve) => {
    let reply = ''
    const socket = connect(address).setEncoding('utf8')
    const answered = (): void =>
      resolve(reply === '' ? 'a process that does not identify itself' : reply)
    socket.setTimeout(ANSWER_MS, () => socket.destroy())
    socket.on('data', (text: string) => (reply += text))
    socket.on('close', answered)
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      if (code === 'ECONNREFUSED' || code === 'ENOENT' || code === 'ENOTSOCK') resolve(null)
    })
  })
}

function listen(address: string, greeting: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.on('error', () => undefined).end(greeting))
    server.once('error', reject)
    server.listen(address, () => resolve(server.unref()))
  })
}

function introduction(holder: string): string {
  return `${holder} (process ${process.pid} on ${hostname()}, since ${new Date().toISOString()})`
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}
