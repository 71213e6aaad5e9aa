import { readdir, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'

/** Bytes of the blocks of all files below a folder; 0 without the folder. */
export async function bytesBelow(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true }).catch(() => [])
  // A file may go while the others are read, such as that of a snapshot.
  const sizes = entries.map((entry) =>
    stat(join(folder, entry)).then(
      (file) => (file.isFile() ? file.blocks * 512 : 0),
      () => 0,
    ),
  )
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0)
}

/** Bytes of the disk of a folder: all, and those that are free for this process. */
export async function diskSpace(folder: string): Promise<{ size: number; free: number }> {
  const { blocks, bavail, bsize } = await statfs(folder)
  return { size: blocks * bsize, free: bavail * bsize }
}
