/**
 * Backups: POST /backups, GET /backups, POST /backups/:name/restore, DELETE /backups/:name. For
 * admins alone.
 */
import type { FastifyPluginCallback, FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import { TandemError } from '../../errors.js'
import { BackupParams, BackupQuery, NoQuery } from '../schemas/requests.js'
import type { Ended, Safekeeping, Work } from '../../backup/jobs.js'
import { BackupsReply, WorkReply } from '../schemas/fields.js'

const NOT_HERE =
  'The items are kept by an engine elsewhere, and so are their backups: use those of the engine (milvus-backup) and of ' +
  'the store of images, taken one after the other.'

export const backupRoutes: FastifyPluginCallback<{ safekeeping: Safekeeping | null }> = (
  app,
  options,
  done,
) => {
  const tags = ['backups']
  const scope = 'admin'
  const safekeeping = (): Safekeeping => {
    if (options.safekeeping !== null) return options.safekeeping
    throw new TandemError('not_supported', NOT_HERE)
  }

  /** The line of the audit that says how it ended, with the id of the request that asked for it. */
  const auditEnd = (request: FastifyRequest) => (ended: Ended) => {
    request.audit(ended.action, ended.name, ended.failure?.code ?? 'done')
  }

  const beginErrors = [
    'backup_busy',
    'backup_exists',
    'storage_full',
    'storage_read_only',
    'not_supported',
  ] as const
  const begin = { tags, querystring: BackupQuery, response: { 202: WorkReply } }
  app.post(
    '/backups',
    {
      config: { scope, audited: 'backup', errors: beginErrors },
      schema: { ...begin, summary: 'Begin a backup' },
    },
    async (request, reply) => {
      const { name } = request.query as Static<typeof BackupQuery>
      reply.code(202)
      return workReply(await safekeeping().backup(name, auditEnd(request)))
    },
  )

  const list = {
    tags,
    summary: 'List backups, and what is under way',
    querystring: NoQuery,
    response: { 200: BackupsReply },
  }
  app.get(
    '/backups',
    { config: { scope, errors: ['not_supported'] }, schema: list },
    async (): Promise<BackupsReply> => {
      const backups = await safekeeping().list()
      const { running, last } = safekeeping().state
      return {
        backups: backups.map(({ name, createdAt, fingerprint, items, position, files }) => {
          const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
          return { name, created_at: createdAt, fingerprint, items, position, bytes }
        }),
        running: running && workReply(running),
        last: last && {
          ...workReply(last),
          ended_at: last.endedAt,
          failure: last.failure,
          restored: last.restored && { ...last.restored },
        },
      }
    },
  )

  const one = { tags, params: BackupParams, querystring: NoQuery }
  app.post(
    '/backups/:name/restore',
    {
      config: {
        scope,
        audited: 'restore',
        errors: ['backup_busy', 'backup_not_found', 'backup_unusable', 'not_supported'],
      },
      schema: {
        ...one,
        summary: 'Begin to make the items those of a backup',
        response: { 202: WorkReply },
      },
    },
    async (request, reply) => {
      reply.code(202)
      return workReply(await safekeeping().restore(nameOf(request), auditEnd(request)))
    },
  )

  const removalErrors = [
    'backup_busy',
    'backup_not_found',
    'storage_full',
    'storage_read_only',
    'not_supported',
  ] as const
  const removal = {
    ...one,
    summary: 'Remove a backup',
    response: { 204: { type: 'null', description: 'Removed' } },
  }
  app.delete(
    '/backups/:name',
    { config: { scope, audited: 'remove backup', errors: removalErrors }, schema: removal },
    async (request, reply) => {
      await safekeeping().remove(nameOf(request))
      return reply.code(204).send()
    },
  )
  done()
}

function nameOf(request: FastifyRequest): string {
  return (request.params as Static<typeof BackupParams>).name
}

function workReply({ action, name, startedAt, progress }: Work): WorkReply {
  return { action, name, started_at: startedAt, progress }
}
