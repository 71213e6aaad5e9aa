/**
 * Lock of a data folder: two processes would not see each other's items.
 *
 * The holder listens on a socket in the folder. The operating system closes it with the process,
 * also after kill -9, and no process id is needed, which containers reuse. A process first creates
 * its own socket and then asks the others; of two that start at once, at least one sees the other.
 * Sockets without a listener are remains of killed processes and are removed.
 *
 * A lock must not end because somebody removes a file. On Linux the holder also listens on a socket
 * without a file, which processes of other containers do not see. For those it makes its socket in
 * the folder again when that is removed.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rm, stat, type FileHandle } from 'node:fs/promises'
import { connect, createServer, Server } from 'node:net'
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
const CHECK_MS = 1000
/** Folder of the socket that answers with the address of the service. */
const SERVICE = 'service'
/** Error codes of file systems that cannot hold a socket, or are full. */
const NO_SOCKETS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'ENOSPC', 'EROFS'])

/**
 * Locks the folder, which is created if it is missing.
 *
 * @param holder - name of this process in the error of another one, such as "the service"
 * @throws DataFolderLockedError naming the process that holds it
 */
export async function lockDataFolder(folder: string, holder: string): Promise<DataFolderLock> {
  await mkdir(join(folder, 'lock'), { recursive: true })
  for (let attempt = 1; ; attempt += 1) {
    const claim = await claimed(folder, holder)
    if (typeof claim === 'object' && claim !== null) return claim
    if (claim !== null && attempt >= ATTEMPTS) {
      throw new DataFolderLockedError(
        `The data folder ${folder} is in use by ${claim}. Stop that first.`,
      )
    }
    await sleep(Math.random() * 40 * attempt)
  }
}

/** @returns the lock, the process that holds it, or null if another process had it just now */
async function claimed(folder: string, holder: string): Promise<DataFolderLock | string | null> {
  const guard = await guardOf(folder, holder)
  if (!(guard instanceof Server) && guard !== undefined) return guard
  const closeGuard = async (): Promise<void> => {
    if (guard !== undefined) await close(guard)
  }
  try {
    const socket = await FolderSocket.open(join(folder, 'lock'), holder)
    const other = await socket.other()
    if (other === null && (await socket.exists())) {
      const stop = keep(socket)
      return { remark: null, release: () => stop().then(closeGuard) }
    }
    await socket.close()
    await closeGuard()
    return other
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (!NO_SOCKETS.has(code)) {
      await closeGuard()
      throw error
    }
    const remark = `${folder} cannot be locked (${code}): make sure that no other process uses it`
    return { remark, release: closeGuard }
  }
}

/**
 * The listener without a file, whose name in Linux' abstract namespace is the identity of the
 * folder; undefined where there are none.
 *
 * @returns the process that has it, or null if that has just ended
 */
async function guardOf(
  folder: string,
  holder: string,
): Promise<Server | string | null | undefined> {
  if (process.platform !== 'linux') return undefined
  const { dev, ino } = await stat(folder, { bigint: true })
  const address = `\0tandem-data-${dev}-${ino}`
  try {
    return await listen(address, introduction(holder))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === 'EADDRINUSE' ? ask(address) : undefined
  }
}

/** Makes the socket again when it is removed. @returns stops that, and closes the socket */
function keep(socket: FolderSocket): () => Promise<void> {
  let renewal: Promise<void> = Promise.resolve()
  const timer = setInterval(() => {
    // Fails where the disk is full or the data folder itself is gone; tried again then.
    renewal = renewal.then(() => socket.renew()).catch(() => undefined)
  }, CHECK_MS).unref()
  return async () => {
    clearInterval(timer)
    await renewal
    await socket.close()
  }
}

/** A socket of this process in the folder of sockets. */
class FolderSocket {
  readonly #path: string
  readonly #holder: string
  #name = ''
  #folder: SocketFolder
  #server: Server | undefined

  private constructor(path: string, holder: string, folder: SocketFolder) {
    this.#path = path
    this.#holder = holder
    this.#folder = folder
  }

  static async open(path: string, holder: string): Promise<FolderSocket> {
    const socket = new FolderSocket(path, holder, await SocketFolder.open(path))
    try {
      await socket.#listen()
    } catch (error) {
      await socket.close()
      throw error
    }
    return socket
  }

  /** The process behind another socket, or null; removes sockets without a listener. */
  other(): Promise<string | null> {
    return heldBy(this.#folder, this.#name)
  }

  async exists(): Promise<boolean> {
    return (await readdir(this.#path).catch((): string[] => [])).includes(this.#name)
  }

  async renew(): Promise<void> {
    if (await this.exists()) return
    await mkdir(this.#path).catch(() => undefined)
    await this.close()
    this.#folder = await SocketFolder.open(this.#path)
    await this.#listen()
  }

  async close(): Promise<void> {
    if (this.#server !== undefined) await close(this.#server)
    this.#server = undefined
    await this.#folder.close()
  }

  async #listen(): Promise<void> {
    // Another name each time, since the end of a listener removes its file.
    this.#name = randomBytes(6).toString('hex')
    this.#server = await listen(this.#folder.address(this.#name), introduction(this.#holder))
  }
}

/**
 * Tells other processes the address of the service on the folder, as long as this process lives.
 * Does nothing where the file system takes no sockets.
 */
export async function announceService(folder: string, url: string): Promise<void> {
  const sockets = join(folder, SERVICE)
  try {
    await mkdir(sockets, { recursive: true })
    const place = await SocketFolder.open(sockets)
    try {
      const name = randomBytes(6).toString('hex')
      await listen(place.address(name), url)
      // Removes the sockets of killed processes.
      await heldBy(place, name)
    } finally {
      await place.close()
    }
  } catch (error) {
    if (!NO_SOCKETS.has((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}

/** The address of the service on the folder; null without one. */
export async function announcedService(folder: string): Promise<string | null> {
  const place = await SocketFolder.open(join(folder, SERVICE)).catch(() => null)
  if (place === null) return null
  try {
    return await heldBy(place, '').catch(() => null)
  } finally {
    await place.close()
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
