import { Type } from 'typebox'

export const HealthReply = Type.Object(
  { status: Type.String(), detail: Type.Optional(Type.String()) },
  { title: 'HealthReply', description: 'The state of the service' },
)
