/** Standard output of a server process. */
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

/**
 * Reads until the server is ready. The caller resumes the stream for the further output.
 *
 * @param log - receives the output
 * @returns the address, without a slash at the end
 * @throws Error with the log if the server ends before
 */
export async function addressWhenReady(stdout: Readable, log: string[] = []): Promise<string> {
  for await (const line of createInterface({ input: stdout })) {
    log.push(line)
    const address = /ready: the (?:search page|encoder) is at (https?:\S+)\//.exec(line)?.[1]
    if (address !== undefined) return address
  }
  throw new Error(`the server ended before it was ready:\n${log.join('\n')}`)
}
