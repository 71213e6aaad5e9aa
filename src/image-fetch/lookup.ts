/**
 * How a connection finds its address: by a resolver whose every answer is checked, at the moment of
 * connecting.
 */
import { lookup as systemLookup } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'

/** All addresses of a host. */
export type Resolve = (hostname: string) => Promise<readonly string[]>

/** Thrown instead of connecting. */
export class AddressNotAllowedError extends Error {
  override readonly name = 'AddressNotAllowedError'
}

export async function systemResolve(hostname: string): Promise<string[]> {
  return (await systemLookup(hostname, { all: true, verbatim: true })).map(({ address }) => address)
}

/**
 * The `lookup` of a connection. One address that is not allowed among those of a host refuses the
 * host: whoever mixes them in wants the other ones tried first.
 */
export function checkedLookup(
  resolve: Resolve,
  isAllowed: (address: string) => boolean,
): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname)
      .then((addresses) => {
        if (!addresses.every(isAllowed)) throw new AddressNotAllowedError(hostname)
        const found = addresses.map((address) => ({ address, family: isIP(address) }))
        const [first] = found
        if (first === undefined) throw new Error(`${hostname} has no address`)
        if (options.all === true) callback(null, found)
        else callback(null, first.address, first.family)
      })
      .catch((error: NodeJS.ErrnoException) => callback(error, '', 0))
  }
}
