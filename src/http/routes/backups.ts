/** /backups: start, list, restore and remove backups; needs the scope admin. */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { BackupJobs, FinishedJob, Job } from '../../backup/jobs.js'
import { TandemError } from '../../errors.js'
import { BackupParams, BackupQuery, BackupsReply, JobReply } from '../schemas/backups.js'
import { empty, NoQuery } from '../schemas/fields.js'

const NOT_SUPPORTED =
  'An external engine stores the items. Use its backups (milvus-backup) and those of the image store, ' +
  'one after the other.'

/** `jobs` is null where an external engine stores the items. */
export const backupRoutes: FastifyPluginCallbackTypebox<{ jobs: BackupJobs | null }> = (
  app,
  options,
  done,
) => {
  const jobs = (): BackupJobs => {
    if (options.jobs !== null) return options.jobs
    throw new TandemError('not_supported', NOT_SUPPORTED)
  }
  const tags = ['backups']
  const scope = 'admin'
  const disk = ['storage_full', 'storage_read_only', 'not_supported'] as const

  app.post(
    '/backups',
    {
      config: { scope, audited: 'backup', errors: ['backup_busy', 'backup_exists', ...disk] },
      schema: {
        tags,
        operationId: 'startBackup',
        summary: 'Start a backup',
        querystring: BackupQuery,
        response: { 202: JobReply },
      },
    },
    async (request, reply) => {
      const job = await jobs().backup(request.query.name, auditEnd(request))
      return reply.code(202).send(replyOf(job))
    },
  )

  app.get(
    '/backups',
    {
      config: { scope, errors: ['not_supported'] },
      schema: {
        tags,
        operationId: 'listBackups',
        summary: 'List backups, and the progress of a job',
        querystring: NoQuery,
        response: { 200: BackupsReply },
      },
    },
    async () => {
      const { running, last } = jobs().state
      const backups = (await jobs().list()).map(({ createdAt, files, ...backup }) => ({
        ...backup,
        created_at: createdAt,
        bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
      }))
      return { backups, running: running && replyOf(running), last: last && finishedReply(last) }
    },
  )

  app.post(
    '/backups/:name/restore',
    {
      config: {
        scope,
        audited: 'restore',
        errors: ['backup_busy', 'backup_not_found', 'backup_unusable', 'not_supported'],
      },
      schema: {
        tags,
        operationId: 'startRestore',
        summary: 'Start to restore a backup',
        params: BackupParams,
        querystring: NoQuery,
        response: { 202: JobReply },
      },
    },
    async (request, reply) => {
      const job = await jobs().restore(request.params.name, auditEnd(request))
      return reply.code(202).send(replyOf(job))
    },
  )

  app.delete(
    '/backups/:name',
    {
      config: {
        scope,
        audited: 'remove backup',
        errors: ['backup_busy', 'backup_not_found', ...disk],
      },
      schema: {
        tags,
        operationId: 'removeBackup',
        summary: 'Remove a backup',
        params: BackupParams,
        querystring: NoQuery,
        response: { 204: empty('Removed') },
      },
    },
    async (request, reply) => {
      await jobs().remove(request.params.name)
      return reply.code(204).send()
    },
  )
  done()
}

/** Writes the audit line for the end of a job, with the id of the request that started it. */
function auditEnd(request: FastifyRequest): (job: FinishedJob) => void {
  return ({ action, name, failure }) => request.audit(action, name, failure?.code ?? 'done')
}

function replyOf({ action, name, startedAt, progress }: Job): JobReply {
  return { action, name, started_at: startedAt, progress }
}

function finishedReply(job: FinishedJob): NonNullable<BackupsReply['last']> {
  const { endedAt, failure, restored } = job
  return { ...replyOf(job), ended_at: endedAt, failure, restored }
}
