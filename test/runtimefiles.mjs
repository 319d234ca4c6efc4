/** Part of the build: the list of the files that a runtime loads. `medulla runtime push` sends these, and package.json. */
import { writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'

/** `written`: the files that esbuild made of the runtime's processes. */
export async function listRuntime(dist, written) {
  const { build: bundle } = await import('esbuild')
  // A thread, which is loaded by its path from the folder of the drivers.
  const thread = join(dist, 'drivers/owner/linux/wavethread.js')
  const options = { bundle: true, write: false, metafile: true, platform: 'node', format: 'esm', packages: 'external' }
  const { metafile } = await bundle({ ...options, entryPoints: [thread] })
  const paths = [...written, ...Object.keys(metafile.inputs)].map((path) => relative(dist, resolve(path)))
  const files = [...new Set(paths)].map((path) => `dist/${path.replaceAll('\\', '/')}`).sort()
  writeFileSync(join(dist, 'runtime/files.json'), `${JSON.stringify({ files })}\n`)
}
