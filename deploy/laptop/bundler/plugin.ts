/** The plugin for esbuild: rewrites modules, turns imports of other files into paths or text, and handles native packages. */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'
import type { Loader, OnLoadResult, OnResolveArgs, OnResolveResult, Plugin, PluginBuild } from 'esbuild'
import { encodedPath, isDependency, logicalPath, packageOf, parseJsonText } from './logical.ts'
import { isAddonLoader, isShim, NATIVE_IMPORT, nativeText, packageIn, type Shim } from './natives.ts'
import { rewrite } from './rewrite.ts'

/** Files that are imported as their text. esbuild handles .json and .txt by itself. */
const TEXT_KINDS = [
  '.html',
  '.htm',
  '.css',
  '.svg',
  '.csv',
  '.tsv',
  '.md',
  '.xml',
  '.yaml',
  '.yml',
  '.toml',
  '.glsl',
  '.gcode',
]
export const TEXT_LOADERS = Object.fromEntries(TEXT_KINDS.map((kind): [string, Loader] => [kind, 'text']))

/** Files that are copied to the robot and imported as their path there. */
const FILE_KINDS =
  /\.(?:png|jpe?g|gif|webp|avif|bmp|ico|wav|mp3|ogg|flac|opus|m4a|mp4|webm|pdf|zip|gz|bin|dat|onnx|tflite|pt|npy|wasm|ttf|otf|woff2?|pem|crt)$/i
const FILE = 'medulla-file'
const NATIVE = 'medulla-native'
const SHIM = 'medulla-shim'

/** Files and workers that a build has found. */
export class Found {
  readonly assets = new Set<string>()
  readonly workers = new Set<string>()

  clear(): void {
    this.assets.clear()
    this.workers.clear()
  }
}

export interface PluginOptions {
  root: string
  /** real paths of modules to rewrite */
  rewritten: ReadonlySet<string>
  /** path to text of sources that differ from the file on disk */
  texts: ReadonlyMap<string, string>
  /** file of the replacement for a native package, or null */
  shim(name: Shim): string | null
  found: Found
}

export function plugin(options: PluginOptions): Plugin {
  const { root, rewritten, texts, found } = options
  return {
    name: 'medulla',
    setup(build) {
      build.onStart(() => found.clear())
      build.onResolve({ filter: NATIVE_IMPORT }, (args) => native(build, args, options))
      build.onLoad({ filter: /^/, namespace: NATIVE }, ({ path }) => ({
        // as Node reports a missing package: code that tries an optional package catches this
        contents: `throw Object.assign(new Error(${JSON.stringify(nativeText(path))}),{code:'MODULE_NOT_FOUND'})`,
      }))
      build.onLoad({ filter: /^/, namespace: SHIM }, ({ path, pluginData }) =>
        replacement(path, pluginData as Replacement),
      )
      build.onResolve({ filter: FILE_KINDS }, async (args) => {
        // an import attribute, as { type: 'bytes' }, asks for something else than the path
        if (args.kind === 'entry-point' || args.pluginData === FILE || args.with.type !== undefined) return
        const { path, errors, namespace } = await resolveOn(build, args, FILE)
        return errors.length > 0 || namespace !== 'file' ? { errors } : { path, namespace: FILE }
      })
      build.onLoad({ filter: /^/, namespace: FILE }, ({ path }) => {
        found.assets.add(path)
        const place = JSON.stringify(encodedPath(logicalPath(root, path)))
        return { contents: `export default __medullaPlace(${place})[1]`, watchFiles: [path] }
      })
      if (rewritten.size === 0) return
      build.onLoad({ filter: exactly(rewritten), namespace: 'file' }, async ({ path }) => {
        const source = texts.get(path) ?? (await readFile(path, 'utf8'))
        const { text, assets, workers } = await rewrite(root, path, source)
        for (const asset of assets) found.assets.add(asset)
        for (const worker of workers) found.workers.add(worker)
        return { contents: text, loader: loaderOf(path), resolveDir: dirname(path) }
      })
    },
  }
}

function exactly(paths: Iterable<string>): RegExp {
  const escaped = [...paths].map((path) => path.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'))
  return new RegExp(`^(?:${escaped.join('|')})$`)
}

const loaderOf = (path: string): Loader => {
  const kind = extname(path).replace(/^\.[cm]/, '.')
  return kind === '.ts' || kind === '.tsx' || kind === '.jsx' ? (kind.slice(1) as Loader) : 'js'
}

/** Resolves an import as esbuild would without this plugin. */
async function resolveOn(build: PluginBuild, args: OnResolveArgs, mark: string): ReturnType<PluginBuild['resolve']> {
  const { path, importer, namespace, resolveDir, kind } = args
  return build.resolve(path, { importer, namespace, resolveDir, kind, pluginData: mark })
}

/**
 * Resolves the import of a native package. In the program's own files it is an error, with advice. In a dependency it may be
 * optional: it resolves to a replacement if there is one, or to a module that throws when it is evaluated.
 */
async function native(
  build: PluginBuild,
  args: OnResolveArgs,
  { root, shim }: PluginOptions,
): Promise<OnResolveResult | undefined> {
  if (args.kind === 'entry-point' || args.pluginData === NATIVE) return
  const { path: specifier, importer } = args
  const named = packageIn(specifier)
  const dependency = isDependency(importer)
  // for an import of bindings, node-gyp-build or a .node file, the importing package is the native one
  const owner = (): string => (dependency ? packageOf(importer)?.name : undefined) ?? specifier
  const name = named === null || isAddonLoader(named) || specifier.endsWith('.node') ? owner() : named
  // the user may have a package of that name beside the program, which is not the native one
  const { path, errors } = await resolveOn(build, args, NATIVE)
  const installed = errors.length === 0
  if (installed && named !== null && !isDependency(path)) return { path }
  if (!dependency) return { errors: [{ text: nativeText(name) }] }
  if (isShim(name) && specifier === name) {
    const file = shim(name)
    if (file !== null) return { path: name, namespace: SHIM, pluginData: { file, from: installed ? path : root } }
  }
  return { path: name, namespace: NATIVE }
}

interface Replacement {
  /** our module */
  file: string
  /** a file of the replaced package, or the program's folder if the package is not installed */
  from: string
}

/**
 * The module that replaces a native package. serialport also exports its parsers, which are packages in JavaScript and
 * stay.
 */
function replacement(name: string, { file, from }: Replacement): OnLoadResult {
  const exported = `module.exports=require(${JSON.stringify(file)})`
  if (name !== 'serialport') return { contents: exported, resolveDir: dirname(file) }
  const parsers = parsersOf(from).map((parser) => `take(require(${JSON.stringify(parser)}))`)
  return {
    contents: `const{SerialPort}=require(${JSON.stringify(file)});SerialPort.SerialPort=SerialPort;SerialPort.parsers={};
const take=(m)=>{for(const[k,v]of typeof m==='function'?[[m.name,m]]:Object.entries(m)){SerialPort[k]=v;SerialPort.parsers[k.replace(/Parser$/,'')]=v}};
${parsers.join(';')};module.exports=SerialPort`,
    resolveDir: dirname(from),
  }
}

function parsersOf(file: string): string[] {
  const owner = packageOf(file)
  if (owner?.name !== 'serialport') return []
  const { dependencies = {} } = parseJsonText(readFileSync(join(owner.root, 'package.json'), 'utf8')) as {
    dependencies?: Record<string, string>
  }
  return Object.keys(dependencies).filter((name) => name.startsWith('@serialport/parser-'))
}
