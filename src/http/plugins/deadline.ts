/** How long a request may take: the service's own limit, or the client's where it is shorter. */
import type { FastifyRequest } from 'fastify'
import { TandemError } from '../../errors.js'

/**
 * The milliseconds that a request has, by its header `Request-Timeout` (seconds) and the limit of
 * the service.
 *
 * @param limitMs - undefined where the service has none for it
 * @throws TandemError `invalid_request` for a header that is not a number above 0
 */
export function timeLimitOf(
  { headers }: Pick<FastifyRequest, 'headers'>,
  limitMs: number | undefined,
): number | undefined {
  const given = headers['request-timeout']
  if (given === undefined) return limitMs
  const seconds =
    typeof given === 'string' && /^\d{1,6}(\.\d{1,6})?$/.test(given) ? Number(given) : 0
  if (seconds > 0) return Math.min(Math.ceil(seconds * 1000), limitMs ?? Infinity)
  throw new TandemError(
    'invalid_request',
    `The header Request-Timeout is ${JSON.stringify(given).slice(0, 60)}; expected seconds above 0, such as 2 or 0.5.`,
  )
}
