/** Metrics of what the service uses: memory of its workers, disk, batches, backups. */
import { join } from 'node:path'
import { Gauge, type Metric, type Registry } from 'prom-client'
import type { BackupJobs } from '../../backup/jobs.js'
import { bytesBelow, diskSpace } from '../../files/disk-space.js'
import type { Retrieval } from '../../retrieval/retrieval.js'
import { residentBytes } from '../../worker/memory.js'

export interface DiskOptions {
  dataFolder: string
  backupFolder: string
  jobs: Pick<BackupJobs, 'list'>
}

/** The processes of a worker, and their memory. A scrape reads the values. */
export function workerMemory(
  registry: Registry,
  workers: () => readonly { name: string; pid: number | null }[],
): void {
  new Gauge({
    name: 'tandem_worker_resident_memory_bytes',
    help: 'Resident memory of the processes of a worker; pages that processes share count for each',
    labelNames: ['worker'],
    registers: [registry],
    async collect() {
      const read = workers().map(async ({ name, pid }) => ({
        name,
        bytes: pid === null ? 0 : await residentBytes(pid),
      }))
      this.reset()
      for (const { name, bytes } of await Promise.all(read)) this.inc({ worker: name }, bytes)
    },
  })
}

/** A histogram whose counts the batcher keeps. */
export function batchSizes(registry: Registry, retrieval: Pick<Retrieval, 'stats'>): void {
  const name = 'tandem_model_batch_inputs'
  const help = 'Inputs of a batch of a graph'
  const get = () => {
    const values = retrieval.stats().batches.flatMap(({ graph, buckets, batches, inputs }) => [
      ...buckets.map(({ limit, batches: value }) => ({
        metricName: `${name}_bucket`,
        labels: { graph, le: String(limit) },
        value,
      })),
      { metricName: `${name}_bucket`, labels: { graph, le: '+Inf' }, value: batches },
      { metricName: `${name}_sum`, labels: { graph }, value: inputs },
      { metricName: `${name}_count`, labels: { graph }, value: batches },
    ])
    return Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values })
  }
  // Histogram of prom-client takes observations only, one at a time.
  registry.registerMetric({ name, get } as unknown as Metric)
}

/** Disk of an embedded collection. What cannot be read has no series. */
export function diskMetrics(registry: Registry, options: DiskOptions): void {
  const { dataFolder, backupFolder, jobs } = options
  const registers = [registry]
  const folders = { data: dataFolder, backups: backupFolder }
  new Gauge({
    name: 'tandem_disk_used_bytes',
    help: 'Bytes of the files of a part of the data',
    labelNames: ['part'],
    registers,
    async collect() {
      for (const part of ['items', 'index', 'graphs'])
        this.set({ part }, await bytesBelow(join(dataFolder, part)))
      this.set({ part: 'backups' }, await bytesBelow(backupFolder))
    },
  })
  perDisk('tandem_disk_size_bytes', 'Size of the disk of a folder', ({ size }) => size)
  perDisk('tandem_disk_free_bytes', 'Free bytes of the disk of a folder', ({ free }) => free)
  new Gauge({
    name: 'tandem_last_backup_timestamp_seconds',
    help: 'Time of the newest complete backup, in seconds since 1970; absent without one',
    registers,
    async collect() {
      const [newest] = await jobs.list().catch(() => [])
      if (newest === undefined) this.remove()
      else this.set(Date.parse(newest.createdAt) / 1000)
    },
  })

  function perDisk(
    name: string,
    help: string,
    read: (space: { size: number; free: number }) => number,
  ): void {
    new Gauge({
      name,
      help,
      labelNames: ['folder'],
      registers,
      async collect() {
        this.reset()
        for (const [folder, path] of Object.entries(folders)) {
          // The folder of backups is made with the first one.
          const space = await diskSpace(path).catch(() => null)
          if (space !== null) this.set({ folder }, read(space))
        }
      },
    })
  }
}
