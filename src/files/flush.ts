/** Flushes what `rename` and `write` leave in the page cache, so that it survives a power cut. */
import { open, rename, writeFile } from 'node:fs/promises'

/** Flushes a file, or a folder with the names that were made, renamed and removed in it. */
export async function flush(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/**
 * Writes a file and flushes it.
 *
 * @param flags - `wx` fails where the file exists
 */
export async function writeFlushed(
  path: string,
  content: Uint8Array | string | Iterable<string | Uint8Array>,
  { flags = 'w', signal }: { flags?: 'w' | 'wx'; signal?: AbortSignal } = {},
): Promise<void> {
  const file = await open(path, flags)
  try {
    await writeFile(file, content, { signal })
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Replaces `path` by `content`, whole or not at all. The caller flushes the folder. */
export async function replaceFile(path: string, content: string | Iterable<string>): Promise<void> {
  const aside = `${path}.new`
  await writeFlushed(aside, content)
  await rename(aside, path)
}
