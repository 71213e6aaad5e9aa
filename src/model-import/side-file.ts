/** The files beside a graph that hold its weights. */
import { realpath } from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import { BundleError } from '../model/bundle/bundle.js'

/**
 * The real path of a side file.
 * @param weight - names the weight in errors
 * @throws BundleError unless it is a plain name of a file in the folder
 */
export async function sideFile(folder: string, name: string, weight: string): Promise<string> {
  if (!/^[\w-][\w.-]*$/.test(name))
    throw new BundleError(
      `${weight} lies in "${name.slice(0, 100)}"; expected a plain name of a file beside the graph.`,
    )
  const [root, path] = await Promise.all([realpath(folder), realpath(join(folder, name))]).catch(
    () => {
      throw new BundleError(`${weight} lies in ${name}, which is missing beside the graph.`)
    },
  )
  if (!path.startsWith((await cacheFolder(folder)) + sep) && !path.startsWith(root + sep))
    throw new BundleError(
      `${weight} lies in ${name}, which is a link that leads out of the folder.`,
    )
  return path
}

/** In the hub's cache, files of a snapshot are links to blobs of the same model. */
async function cacheFolder(folder: string): Promise<string> {
  const inner = await realpath(folder)
  for (let at = inner; dirname(at) !== at; at = dirname(at))
    if (/[/\\]models--[^/\\]+$/.test(dirname(dirname(at))) && dirname(at).endsWith('snapshots'))
      return dirname(dirname(at))
  return inner
}
