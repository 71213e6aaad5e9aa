/** The certificate of the service and its key, for TLS without a proxy. */
import { readFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import { createSecureContext, Server as TlsServer } from 'node:tls'
import type { FastifyBaseLogger } from 'fastify'

/** As PEM: the certificate, followed by those of intermediate authorities. */
export interface Certificate {
  cert: Buffer
  key: Buffer
}

export interface CertificateFiles {
  tlsCertFile?: string | undefined
  tlsKeyFile?: string | undefined
}

/**
 * Reads both files; null if none is configured.
 *
 * @throws Error with a sentence that names the file: it is missing, cannot be read, or does not
 *   match the other one
 */
export async function readCertificate({
  tlsCertFile,
  tlsKeyFile,
}: CertificateFiles): Promise<Certificate | null> {
  if (tlsCertFile === undefined && tlsKeyFile === undefined) return null
  if (tlsCertFile === undefined || tlsKeyFile === undefined) {
    throw new Error(
      'TLS needs a certificate and its key: set both TLS_CERT_FILE and TLS_KEY_FILE, or neither.',
    )
  }
  const [cert, key] = await Promise.all([bytesOf(tlsCertFile), bytesOf(tlsKeyFile)])
  try {
    createSecureContext({ cert, key })
  } catch (error) {
    // The message of the library contains no part of the key.
    throw new Error(
      `${tlsCertFile} and ${tlsKeyFile} are not a certificate and its key: ${(error as Error).message}.`,
      { cause: error },
    )
  }
  return { cert, key }
}

/**
 * Reads both files again and logs the outcome. New connections get the new certificate; a damaged
 * one changes nothing.
 *
 * @param server - a TLS server
 */
export async function reloadCertificate(
  server: Server,
  files: CertificateFiles,
  log: FastifyBaseLogger,
): Promise<void> {
  try {
    const certificate = await readCertificate(files)
    if (certificate !== null && server instanceof TlsServer) server.setSecureContext(certificate)
    log.info('the certificate was read again')
  } catch (error) {
    log.error(`${(error as Error).message} The previous certificate stays in use.`)
  }
}

function bytesOf(file: string): Promise<Buffer> {
  return readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new Error(`${file} cannot be read (${error.code ?? error.message}).`, { cause: error })
  })
}
