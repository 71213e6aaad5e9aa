/**
 * Images as objects of a bucket, in AWS S3 or a server that speaks its protocol. The only importer
 * of its SDK.
 */
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { bucketFailure } from './bucket-failure.js'
import { isKey } from './key.js'
import type { Kept, Place } from './place.js'

/**
 * Tries of one request; between them the SDK waits, longer each time and by chance, so that
 * services do not try in step.
 */
const MOST_TRIES = 3
/**
 * A server that is there takes a connection sooner; one that is not should leave time for another
 * try.
 */
const CONNECT_TIMEOUT_MS = 1000

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
    // Servers of one's own seldom have a name for each bucket, so the bucket is in the path.
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    maxAttempts: MOST_TRIES,
    requestHandler: {
      connectionTimeout: Math.min(CONNECT_TIMEOUT_MS, timeoutMs),
      // One try that hangs leaves time for another.
      requestTimeout: Math.ceil(timeoutMs / 2),
      throwOnRequestTimeout: true,
    },
    // What the signature and the key do already, and some servers do not know.
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

  async *list(abortSignal?: AbortSignal): AsyncIterable<Kept> {
    let after: string | undefined
    do {
      const page = {
        Bucket: this.#bucket,
        Prefix: this.#prefix,
        ...(after === undefined ? {} : { ContinuationToken: after }),
      }
      const found = await this.#client
        .send(new ListObjectsV2Command(page), abortSignal === undefined ? {} : { abortSignal })
        .catch((error: unknown) => this.#fail(error))
      for (const { Key = '', LastModified } of found.Contents ?? []) {
        const key = Key.slice(this.#prefix.length)
        if (isKey(key) && LastModified !== undefined) yield { key, storedAt: LastModified }
      }
      after = found.NextContinuationToken
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
