/** Address lookup of a connection; checks every resolved address when the connection is made. */
import { lookup as systemLookup } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import type { Resolve } from './image-fetch.js'

/** A resolved address is not allowed; no connection was made. */
export class AddressNotAllowedError extends Error {
  override readonly name = 'AddressNotAllowedError'
}

/** All addresses of a host, by the resolver of the system. */
export async function systemResolve(hostname: string): Promise<string[]> {
  return (await systemLookup(hostname, { all: true, verbatim: true })).map(({ address }) => address)
}

/** The `lookup` of a connection. One forbidden address among those of a host refuses the host. */
export function checkedLookup(
  resolve: Resolve,
  isAllowed: (address: string) => boolean,
): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname)
      .then((addresses) => {
        if (!addresses.every(isAllowed)) throw new AddressNotAllowedError(hostname)
        const records = addresses.map((address) => ({ address, family: isIP(address) }))
        const [first] = records
        if (first === undefined) throw new Error(`${hostname} has no address`)
        if (options.all === true) callback(null, records)
        else callback(null, first.address, first.family)
      })
      .catch((error: NodeJS.ErrnoException) => callback(error, '', 0))
  }
}
