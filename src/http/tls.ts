/** The certificate of the service and its key, where it speaks TLS by itself. */
import { readFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import { createSecureContext, Server as TlsServer } from 'node:tls'
import type { FastifyBaseLogger } from 'fastify'
import type { Config } from '../config.js'

/** As PEM: the certificate first, then those of the authorities between. */
export interface Certificate {
  cert: Buffer
  key: Buffer
}

/**
 * Reads both files; null where none is configured.
 *
 * @throws Error with a sentence that names the file: one is missing, cannot be read, or the two do
 *   not belong together
 */
export async function readCertificate(
  config: Pick<Config, 'tlsCertFile' | 'tlsKeyFile'>,
): Promise<Certificate | null> {
  const { tlsCertFile, tlsKeyFile } = config
  if (tlsCertFile === undefined && tlsKeyFile === undefined) return null
  if (tlsCertFile === undefined || tlsKeyFile === undefined) {
    throw new Error(
      'TLS takes a certificate and its key: set both TLS_CERT_FILE and TLS_KEY_FILE, or neither.',
    )
  }
  const [cert, key] = await Promise.all([bytesOf(tlsCertFile), bytesOf(tlsKeyFile)])
  try {
    createSecureContext({ cert, key })
  } catch (error) {
    // The sentence of the library, which never has a part of the key.
    throw new Error(
      `${tlsCertFile} and ${tlsKeyFile} are no certificate and its key: ${(error as Error).message}.`,
      { cause: error },
    )
  }
  return { cert, key }
}

/**
 * Reads both files again: new connections get the new certificate; a broken one changes nothing.
 * The log has the outcome.
 *
 * @param server - one that speaks TLS
 */
export async function reloadCertificate(
  server: Server,
  config: Config,
  log: FastifyBaseLogger,
): Promise<void> {
  try {
    const certificate = await readCertificate(config)
    if (certificate !== null && server instanceof TlsServer) server.setSecureContext(certificate)
    log.info('the certificate was read again')
  } catch (error) {
    log.error(`${(error as Error).message} The certificate before it still holds.`)
  }
}

function bytesOf(file: string): Promise<Buffer> {
  return readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new Error(`${file} cannot be read (${error.code ?? error.message}).`, { cause: error })
  })
}
