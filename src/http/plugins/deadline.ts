/** The time limit of a request: that of the service, or the client's if it is shorter. */
import type { FastifyRequest } from 'fastify'
import { clip, TandemError } from '../../errors.js'

/**
 * The milliseconds by the header `Request-Timeout` (in seconds) and the limit of the service.
 *
 * @param limitMs - undefined for no limit
 * @throws TandemError `invalid_request` for a header that is not a number above 0
 */
export function timeLimitOf(
  { headers }: Pick<FastifyRequest, 'headers'>,
  limitMs: number | undefined,
): number | undefined {
  const header = headers['request-timeout']
  if (header === undefined) return limitMs
  const seconds =
    typeof header === 'string' && /^\d{1,6}(\.\d{1,6})?$/.test(header) ? Number(header) : 0
  if (seconds > 0) return Math.min(Math.ceil(seconds * 1000), limitMs ?? Infinity)
  throw new TandemError(
    'invalid_request',
    `The header Request-Timeout is ${JSON.stringify(clip(String(header), 60))}; expected seconds above 0, such as 2 or 0.5.`,
  )
}
