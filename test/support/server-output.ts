/** What a server process says on its standard output. */
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

/**
 * Reads until the server says that it is ready; whoever goes on reading, or lets the rest go,
 * resumes the stream.
 *
 * @param log - gets what was said
 * @returns its address, without a slash at the end
 * @throws Error with the log, where it ends before
 */
export async function addressWhenReady(stdout: Readable, log: string[] = []): Promise<string> {
  for await (const line of createInterface({ input: stdout })) {
    log.push(line)
    const address = /ready: the (?:search page|encoder) is at (https?:\S+)\//.exec(line)?.[1]
    if (address !== undefined) return address
  }
  throw new Error(`the server ended before it was ready:\n${log.join('\n')}`)
}
