import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Milvus } from '../support/milvus.js'
import { Balancer } from './balancer.js'
import { Replica } from './replica.js'

const REPLICAS = 3

/** Three services over one Milvus and one folder of images, behind a balancer. */
export class Fleet {
  readonly replicas: readonly Replica[]
  readonly balancer: Balancer
  readonly #milvus: Milvus
  readonly #folder: string

  private constructor(
    replicas: readonly Replica[],
    balancer: Balancer,
    milvus: Milvus,
    folder: string,
  ) {
    this.replicas = replicas
    this.balancer = balancer
    this.#milvus = milvus
    this.#folder = folder
  }

  static async start(): Promise<Fleet> {
    const folder = await mkdtemp(join(tmpdir(), 'tandem-fleet-'))
    const milvus = await Milvus.start()
    const settings = { MILVUS_ADDRESS: milvus.address, IMAGE_STORE: join(folder, 'images') }
    const replicas = Array.from(
      { length: REPLICAS },
      (_, at) => new Replica({ ...settings, TANDEM_DATA_DIR: join(folder, String(at)) }),
    )
    await Promise.all(replicas.map((replica) => replica.start()))
    return new Fleet(replicas, await Balancer.start(replicas), milvus, folder)
  }

  /** Restarts the services one by one; each waits until the previous one is ready. */
  async roll(): Promise<void> {
    for (const replica of this.replicas) {
      await replica.stop()
      await replica.start()
    }
  }

  async end(): Promise<void> {
    await this.balancer.end()
    await Promise.all(this.replicas.map((replica) => replica.stop()))
    await this.#milvus.end()
    await rm(this.#folder, { recursive: true, force: true })
  }
}
