/** Images in a bucket of AWS S3 or a compatible server. The only importer of the SDK. */
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { TandemError } from '../errors.js'
import type { Place, StoredImage } from './image-store.js'
import { isKey } from './key.js'

/** Attempts of one request; the SDK waits between them with random backoff. */
const MAX_ATTEMPTS = 3
/** A reachable server accepts sooner; an unreachable one must leave time for another attempt. */
const CONNECT_TIMEOUT_MS = 1000
/** Seconds after which an unreachable server may be reachable again. */
const RETRY_AFTER_S = 2

export interface BucketOptions {
  endpoint?: string | undefined
  region?: string
  timeoutMs: number
}

export function openBucketPlace(
  place: { bucket: string; prefix: string },
  options: BucketOptions,
): Place {
  const { endpoint, region = 'us-east-1', timeoutMs } = options
  const client = new S3Client({
    region,
    // Other servers seldom have a host name for each bucket, so the bucket is in the path.
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    maxAttempts: MAX_ATTEMPTS,
    requestHandler: {
      connectionTimeout: Math.min(CONNECT_TIMEOUT_MS, timeoutMs),
      // An attempt that hangs leaves time for another.
      requestTimeout: Math.ceil(timeoutMs / 2),
      throwOnRequestTimeout: true,
    },
    // Signature and key verify the bytes already, and some servers do not support it.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  })
  return new BucketPlace(client, place.bucket, `${place.prefix}/`)
}

class BucketPlace implements Place {
  readonly #client: S3Client
  readonly #bucket: string
  readonly #prefix: string

  constructor(client: S3Client, bucket: string, prefix: string) {
    this.#client = client
    this.#bucket = bucket
    this.#prefix = prefix
  }

  async put(key: string, bytes: Uint8Array, abortSignal: AbortSignal): Promise<void> {
    const command = new PutObjectCommand({
      ...this.#object(key),
      Body: bytes,
      ContentLength: bytes.byteLength,
    })
    await this.#client.send(command, { abortSignal }).catch((error: unknown) => this.#fail(error))
  }

  async get(key: string, abortSignal: AbortSignal): Promise<Uint8Array | undefined> {
    try {
      const { Body } = await this.#client.send(new GetObjectCommand(this.#object(key)), {
        abortSignal,
      })
      return await Body?.transformToByteArray()
    } catch (error) {
      if (error instanceof Error && error.name === 'NoSuchKey') return undefined
      return this.#fail(error)
    }
  }

  async remove(key: string, abortSignal: AbortSignal): Promise<void> {
    const command = new DeleteObjectCommand(this.#object(key))
    await this.#client.send(command, { abortSignal }).catch((error: unknown) => this.#fail(error))
  }

  async *list(abortSignal?: AbortSignal): AsyncIterable<StoredImage> {
    let after: string | undefined
    do {
      const page = {
        Bucket: this.#bucket,
        Prefix: this.#prefix,
        ...(after === undefined ? {} : { ContinuationToken: after }),
      }
      const result = await this.#client
        .send(new ListObjectsV2Command(page), abortSignal === undefined ? {} : { abortSignal })
        .catch((error: unknown) => this.#fail(error))
      for (const { Key = '', LastModified } of result.Contents ?? []) {
        const key = Key.slice(this.#prefix.length)
        if (isKey(key) && LastModified !== undefined) yield { key, storedAt: LastModified }
      }
      after = result.NextContinuationToken
    } while (after !== undefined)
  }

  close(): void {
    this.#client.destroy()
  }

  #object(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.#prefix + key }
  }

  #fail(error: unknown): never {
    throw bucketFailure(error, this.#bucket)
  }
}

/**
 * The error for `error` of the SDK, which is not its cause: causes are logged, and the SDK's error
 * contains the signed request.
 */
function bucketFailure(error: unknown, bucket: string): TandemError {
  const { name, code, $metadata, $response } = error as {
    name?: string
    code?: string
    $metadata?: { httpStatusCode?: number }
    $response?: { statusCode?: number }
  }
  const status = $metadata?.httpStatusCode ?? $response?.statusCode
  if (name === 'CredentialsProviderError') {
    const expected = 'expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role'
    return new TandemError(
      'image_store_failed',
      `There are no credentials for the bucket ${bucket}; ${expected}.`,
    )
  }
  if (status === undefined || status >= 500 || status === 429) {
    const reason =
      status === undefined ? (code ?? name ?? 'no answer') : `${status} ${name ?? ''}`.trim()
    const sentence = `The bucket ${bucket} cannot be reached now (${reason}).`
    return new TandemError('image_store_unavailable', sentence, { retryAfterS: RETRY_AFTER_S })
  }
  return new TandemError(
    'image_store_failed',
    `The bucket ${bucket} refused: ${status} ${name ?? ''}`.trim() + '.',
  )
}
