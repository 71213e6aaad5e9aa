import { Type, type Static } from 'typebox'
import { closed, nullable, words } from './fields.js'

const BackupName = Type.String({
  pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$',
  description:
    '1 to 100 letters, digits, points, hyphens and underscores, the first a letter or digit',
})

export const BackupParams = Type.Object({ name: BackupName }, closed)

export const BackupQuery = Type.Object(
  { name: Type.Optional(BackupName) },
  { ...closed, description: 'name' },
)

const time = Type.String({ format: 'date-time' })

const job = {
  action: words('backup', 'restore'),
  name: Type.String({ description: 'Of the backup' }),
  started_at: time,
  progress: nullable<{ items: number; of: number }>(
    Type.Object({ items: Type.Integer(), of: Type.Integer() }),
    'Items processed so far, and all; null where that is not known yet',
  ),
}

export const JobReply = Type.Object(job, {
  title: 'JobReply',
  description: 'The job has started; GET /backups has its progress',
})
export type JobReply = Static<typeof JobReply>

const FinishedJob = Type.Object({
  ...job,
  ended_at: time,
  failure: nullable<{ code: string; detail: string }>(
    Type.Object({ code: Type.String(), detail: Type.String() }),
    'Code and detail of the error; null where the job succeeded',
  ),
  restored: nullable<{ stored: number; removed: number; unchanged: number }>(
    Type.Object({ stored: Type.Integer(), removed: Type.Integer(), unchanged: Type.Integer() }),
    'Of a restore: items stored, removed, and those that were the same already',
  ),
})

export const BackupsReply = Type.Object(
  {
    backups: Type.Array(
      Type.Object({
        name: Type.String(),
        created_at: time,
        fingerprint: Type.String({ description: 'Of the bundle that made the embeddings' }),
        items: Type.Integer(),
        position: Type.Integer({ description: 'The last change of the item store in the backup' }),
        bytes: Type.Integer(),
      }),
    ),
    running: nullable<JobReply>(Type.Object(job), 'The job in progress'),
    last: nullable<Static<typeof FinishedJob>>(
      FinishedJob,
      'The job that ended last, since the start of the service',
    ),
  },
  { title: 'BackupsReply', description: 'Complete backups, the newest first' },
)
export type BackupsReply = Static<typeof BackupsReply>
