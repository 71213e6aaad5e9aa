/** Serializers of replies, built at the first reply: a start builds none for routes at rest. */
import SerializerSelector from '@fastify/fast-json-stringify-compiler'

type BuildSerializer = ReturnType<typeof SerializerSelector>

export const buildSerializer: BuildSerializer = (schemas, options) => {
  const build = SerializerSelector()(schemas, options)
  return (route) => {
    let serialize: ReturnType<typeof build> | undefined
    return (value: unknown) => {
      serialize ??= build(route)
      return serialize(value)
    }
  }
}
