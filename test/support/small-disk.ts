/**
 * Disks of a few megabytes that a test may fill or break. Each is mounted in its own mount
 * namespace, which ends with its shell, also when the test is killed. Other processes reach it
 * through /proc/…/root of the shell.
 */
import { spawn } from 'node:child_process'
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export interface Disk {
  /** An empty folder on the disk. */
  readonly folder: string
  /** Writes a file until at most `freeBytes` are free. */
  fill(freeBytes?: number): void
  /** Removes the file of `fill`. */
  freeSpace(): void
  /** Remounts it read-only; no file on it may be open for writing. */
  makeReadOnly(): Promise<void>
  end(): Promise<void>
}

export interface BreakableDisk extends Disk {
  /** Makes it read-only while files are open, as the kernel does with a disk that has errors. */
  break(): Promise<void>
  /** Checks it and mounts it again; no file on it may be open. */
  repair(): Promise<void>
}

/** A tmpfs; null if this process may not mount one. */
export async function smallDisk(megabytes: number): Promise<Disk | null> {
  return mounted(`mount -t tmpfs -o size=${megabytes}m tmpfs "$MOUNT"`)
}

/** An ext4 in a file; null if this process may not mount one or its tools are missing. */
export async function breakableDisk(megabytes: number): Promise<BreakableDisk | null> {
  if (process.getuid?.() !== 0) return null
  const disk = await mounted(
    `truncate -s ${megabytes}M "$IMAGE" && mkfs.ext4 -q "$IMAGE" && mount -o loop,errors=remount-ro "$IMAGE" "$MOUNT"`,
  )
  if (disk === null) return null
  // Child processes of a killed service end shortly after it.
  const unmount = 'for try in 1 2 3 4 5 6 7 8 9; do umount "$MOUNT" && break; sleep 0.3; done'
  const repair = `${unmount}; e2fsck -fy "$IMAGE"; mount -o loop,errors=remount-ro "$IMAGE" "$MOUNT"`
  return Object.assign(disk, {
    break: () => disk.run('mount -o remount,abort "$MOUNT"'),
    repair: () => disk.run(repair),
  })
}

type RunningDisk = Disk & { run(command: string): Promise<void> }

async function mounted(mount: string): Promise<RunningDisk | null> {
  const ownFolder = mkdtempSync(join(tmpdir(), 'tandem-disk-'))
  const env = {
    PATH: process.env['PATH'],
    MOUNT: join(ownFolder, 'mount'),
    IMAGE: join(ownFolder, 'image'),
  }
  await mkdir(env.MOUNT)
  const asRoot = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']
  // Runs each line of its input and prints the exit status.
  const loop = 'while read -r line; do eval "$line" </dev/null >/dev/null 2>&1; echo "$?"; done'
  const shell = spawn('unshare', [...asRoot, '--mount', 'sh', '-c', loop], {
    env,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const exit = new Promise<void>((done) =>
    shell.once('close', () => done()).once('error', () => done()),
  )
  shell.stdin.on('error', () => undefined)
  const answers = createInterface({ input: shell.stdout })[Symbol.asyncIterator]()
  const succeeds = async (command: string): Promise<boolean> => {
    shell.stdin.write(`${command}\n`)
    const answer = await answers.next()
    return answer.done !== true && answer.value === '0'
  }
  const run = async (command: string): Promise<void> => {
    if (!(await succeeds(command))) throw new Error(`a command failed on the disk: ${command}`)
  }
  const end = async (): Promise<void> => {
    shell.stdin.end()
    await exit
    rmSync(ownFolder, { recursive: true, force: true })
  }
  if (!(await succeeds(mount))) {
    await end()
    return null
  }
  const root = join(`/proc/${shell.pid}/root`, env.MOUNT)
  const folder = join(root, 'data')
  await mkdir(folder)
  const filler = join(root, 'filler')
  return {
    folder,
    fill: (freeBytes = 0) => fillUp(filler, freeBytes),
    freeSpace: () => rmSync(filler),
    end,
    run,
    makeReadOnly: () => run('mount -o remount,ro "$MOUNT"'),
  }
}

function fillUp(file: string, freeBytes: number): void {
  const descriptor = openSync(file, 'w')
  let written = 0
  try {
    for (const chunk = Buffer.alloc(4096); ;) written += writeSync(descriptor, chunk)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    ftruncateSync(descriptor, Math.max(0, written - freeBytes))
  } finally {
    closeSync(descriptor)
  }
}
