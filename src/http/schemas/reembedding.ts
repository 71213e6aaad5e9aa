import { Type, type Static } from 'typebox'
import { BUNDLE_NAME } from '../../collection/collection.js'
import { closed, nullable } from './fields.js'

export const ReembeddingBody = Type.Object(
  {
    model: Type.String({
      pattern: BUNDLE_NAME.source,
      description: 'the bare name of a bundle: a folder beside the configured one',
    }),
  },
  { title: 'ReembeddingBody', ...closed, description: 'an object with model' },
)

const bundle = {
  model: nullable<string>(
    Type.String(),
    'The folder of the bundle; null where the store does not know it',
  ),
  fingerprint: Type.String(),
}

const PreparedBundle = Type.Object(
  {
    ...bundle,
    state: Type.Unsafe<'opening' | 'embedding' | 'ready' | 'failed'>({
      type: 'string',
      enum: ['opening', 'embedding', 'ready', 'failed'],
    }),
    items: Type.Integer({ description: 'Stored items' }),
    lag: Type.Integer({ description: 'Items that are still to be embedded' }),
    problem: nullable<string>(Type.String(), 'Why there is no progress; null where there is'),
  },
  { description: 'The bundle that is being prepared' },
)

export const ReembeddingReply = Type.Object(
  {
    serving: Type.Object(bundle, { description: 'The bundle that answers requests' }),
    reembedding: nullable<Static<typeof PreparedBundle>>(
      PreparedBundle,
      'The bundle that is being prepared; null where none is',
    ),
  },
  { title: 'ReembeddingReply', description: 'The bundles of the service' },
)
export type ReembeddingReply = Static<typeof ReembeddingReply>
