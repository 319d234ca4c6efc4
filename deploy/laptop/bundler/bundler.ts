/**
 * Bundles a program into one ESM file, which behaves as its separate modules would in Node, and collects the files beside
 * it.
 */
import { readFileSync, statSync } from 'node:fs'
import { dirname, extname, join, resolve } from 'node:path'
import type { BuildContext, BuildFailure, BuildResult, BuildOptions as EsbuildOptions, Message } from 'esbuild'
import type { TreeFile } from '../../shared/bundle/h1.ts'
import { Refusal } from '../../shared/errors.ts'
import { matchAssets, readAssets } from './assets.ts'
import { FILES, logicalPath, PLACE_NAMES, parseJsonText } from './logical.ts'
import { packageIn, type Shim } from './natives.ts'
import { Found, plugin, TEXT_LOADERS } from './plugin.ts'
import { asksPlace, startsWorker, workerName } from './rewrite.ts'
import { mayBeSloppy, sloppyModule } from './sloppy.ts'

export interface BundlerOptions {
  /** the file that programs import as `medulla` */
  sdk: string
  /** the file that programs import as `medulla/drivers` */
  drivers: string
  /** do not minify */
  readable?: boolean
}

export interface EntryFile {
  /** the program's folder, a real path */
  root: string
  /** relative to root */
  entry: string
  /** patterns of the files that the bundle contains besides code */
  assets: readonly string[]
  /** the text of the entry, if it differs from the file on disk */
  text?: string
}

export interface Bundled {
  code: Uint8Array
  /** esbuild's source map, relative to the program's folder; it does not count the `shift` lines at the start of `code` */
  map: string
  shift: number
  /** assets and workers, by their names in the payload */
  files: TreeFile[]
  /** absolute paths of all input files */
  inputs: string[]
  /** version of esbuild */
  esbuild: string
}

const OUTFILE = 'program.mjs'
/** The oldest Node whose syntax a bundle uses. */
export const TARGET = 'node20'

type Options = EsbuildOptions & { write: false; metafile: true; plugins: NonNullable<EsbuildOptions['plugins']> }

/** CommonJS dependencies load Node's own modules with require(), which an ESM file must create. */
const REQUIRE =
  "import{createRequire as __medullaRequire}from'node:module';const require=__medullaRequire(import.meta.url);\n"

/**
 * Declares the function that returns URL, path and folder of a module. `base` is the relative URL from the bundle to
 * files/.
 */
const placeFunction = (base: string): string =>
  `import{fileURLToPath as __medullaPath}from'node:url';import{dirname as __medullaFolder}from'node:path';const __medullaPlace=(p)=>{const u=new URL(p,new URL(${JSON.stringify(base)},import.meta.url)),f=__medullaPath(u);return[u.href,f,__medullaFolder(f)]};\n`

/** Bundles one program again and again; esbuild keeps its parsed files. */
export class Bundler {
  readonly #opts: BundlerOptions
  #context: { of: string; made: BuildContext<Options> } | null = null
  /**
   * Paths of modules that need the rewriting; a path stays here when an edited module no longer needs it, which does no
   * harm.
   */
  readonly #rewritten = new Set<string>()
  readonly #found = new Found()
  /** path to source of modules that were parsed and need no sloppy mode */
  readonly #notSloppy = new Map<string, string>()

  constructor(opts: BundlerOptions) {
    this.#opts = opts
  }

  /** One at a time. Throws `build-failed`. */
  async bundle(entry: EntryFile): Promise<Bundled> {
    const main = resolve(entry.root, entry.entry)
    const texts = new Map(entry.text === undefined ? [] : [[main, entry.text]])
    const declared = await matchAssets(entry.root, entry.assets)
    const code = await this.#module(entry, main, texts, (options) => this.#rebuild(options), this.#found)
    const assets = new Set([...declared, ...code.assets])
    const inputs = new Set(code.inputs)
    const files: TreeFile[] = []
    // a worker may start further workers
    for (const workers = new Set(code.workers), made = new Set<string>(); workers.size > made.size; ) {
      for (const path of [...workers].filter((one) => !made.has(one)).sort()) {
        made.add(path)
        const esbuild = await import('esbuild')
        const worker = await this.#module(entry, path, texts, (options) => esbuild.build(options), new Found())
        files.push({ name: `${FILES}/${workerName(logicalPath(entry.root, path))}`, bytes: worker.code })
        for (const asset of worker.assets) assets.add(asset)
        for (const input of worker.inputs) inputs.add(input)
        for (const other of worker.workers) workers.add(other)
      }
    }
    files.push(...readAssets(entry.root, assets))
    for (const asset of assets) inputs.add(asset)
    return { code: code.code, map: code.map, shift: code.shift, files, inputs: [...inputs], esbuild: code.esbuild }
  }

  async close(): Promise<void> {
    await this.#context?.made.dispose()
    this.#context = null
  }

  /**
   * Bundles one entry point, the program's main file or a worker. Repeats the build until no further module needs
   * rewriting.
   */
  async #module(
    entry: EntryFile,
    main: string,
    texts: ReadonlyMap<string, string>,
    build: (options: Options) => Promise<BuildResult<Options>>,
    found: Found,
  ): Promise<Omit<Bundled, 'files'> & { assets: string[]; workers: string[] }> {
    const { root } = entry
    const esbuild = await import('esbuild')
    const own = texts.get(main) ?? readFileSync(main, 'utf8')
    if (asksPlace(own) || startsWorker(own) || texts.size > 0) this.#rewritten.add(main)
    for (;;) {
      const rewritten = this.#rewritten.size
      let result: BuildResult<Options> | null = null
      try {
        result = await build(this.#options(entry, main, texts, found))
      } catch (cause) {
        const { errors } = cause as BuildFailure
        if (!Array.isArray(errors)) throw cause
        await this.#noteStrict(root, errors)
        if (this.#rewritten.size === rewritten) throw await failure(root, errors, cause)
      }
      if (result === null) continue
      const output = (end: string): string => result?.outputFiles.find(({ path }) => path.endsWith(end))?.text ?? ''
      const text = output(OUTFILE)
      const inputs = inputsOf(root, result)
      await this.#note(text, inputs)
      if (this.#rewritten.size > rewritten) continue
      const head = [
        text.includes('Dynamic require of') ? REQUIRE : '',
        text.includes('__medullaPlace') ? placeFunction(base(root, main, entry)) : '',
      ]
      return {
        code: Buffer.from(head.join('') + text),
        map: output(`${OUTFILE}.map`),
        shift: head.join('').split('\n').length - 1,
        inputs: inputs.map(({ path }) => path),
        assets: [...found.assets],
        workers: [...found.workers],
        esbuild: esbuild.version,
      }
    }
  }

  async #rebuild(options: Options): Promise<BuildResult<Options>> {
    const of = JSON.stringify([{ ...options, plugins: [] }, [...this.#rewritten]])
    if (this.#context?.of !== of) {
      await this.close()
      const esbuild = await import('esbuild')
      this.#context = { of, made: await esbuild.context(options) }
    }
    return this.#context.made.rebuild()
  }

  #options({ root }: EntryFile, main: string, texts: ReadonlyMap<string, string>, found: Found): Options {
    const { sdk, drivers, readable = false } = this.#opts
    const shim = (name: Shim): string | null => {
      const path = join(dirname(resolve(drivers)), 'program/npm', name + extname(drivers))
      return isFile(path) ? path : null
    }
    return {
      absWorkingDir: root,
      entryPoints: [main],
      // esbuild does not write this file: it only makes the sources of the map relative to the program's folder
      outfile: OUTFILE,
      allowOverwrite: true,
      bundle: true,
      write: false,
      format: 'esm',
      platform: 'node',
      target: TARGET,
      charset: 'utf8',
      minifyWhitespace: !readable,
      minifySyntax: !readable,
      treeShaking: true,
      metafile: true,
      sourcemap: 'external',
      sourcesContent: false,
      logLevel: 'silent',
      alias: { medulla: resolve(sdk), 'medulla/drivers': resolve(drivers) },
      define: PLACE_NAMES,
      loader: TEXT_LOADERS,
      plugins: [plugin({ root, rewritten: new Set(this.#rewritten), texts, shim, found })],
      // a tsconfig.json in a folder above must not change the result; the program's own may (BUNDLE 11.2)
      ...(isFile(join(root, 'tsconfig.json')) ? { tsconfig: join(root, 'tsconfig.json') } : { tsconfigRaw: {} }),
    }
  }

  /** Adds modules that esbuild rejects in strict mode and that sloppyModule() can compile. */
  async #noteStrict(root: string, errors: readonly Message[]): Promise<void> {
    for (const { location } of errors) {
      const path = location === null ? '' : resolve(root, location.file)
      if (!/\.c?js$/.test(path) || this.#rewritten.has(path) || !isFile(path)) continue
      if ((await sloppyModule(readFileSync(path, 'utf8'), 'x')) !== null) this.#rewritten.add(path)
    }
  }

  /** Adds modules that need rewriting and were bundled without it. */
  async #note(text: string, inputs: readonly Input[]): Promise<void> {
    const asked = /__medulla(?:Url|File|Dir)\b/.test(text)
    for (const { path, format } of inputs) {
      if (this.#rewritten.has(path) || !/\.[cm]?[jt]sx?$/.test(path)) continue
      const cjs = format === 'cjs' && /\.c?js$/.test(path)
      if (!asked && !cjs && path.includes('node_modules')) continue
      const source = readFileSync(path, 'utf8')
      const moved = asked && asksPlace(source)
      const worker = !path.includes('node_modules') && startsWorker(source)
      const sloppy = async () => cjs && mayBeSloppy(source) && (await this.#isSloppy(path, source))
      if (moved || worker || (await sloppy())) this.#rewritten.add(path)
    }
  }

  /** Parsing everything that a program imports takes as long as bundling it, so each source is parsed once. */
  async #isSloppy(path: string, source: string): Promise<boolean> {
    if (this.#notSloppy.get(path) === source) return false
    if ((await sloppyModule(source, 'x')) !== null) return true
    this.#notSloppy.set(path, source)
    return false
  }
}

interface Input {
  path: string
  format: string | undefined
}

/**
 * The input files of a build. esbuild names inputs by their paths relative to the program's folder; inputs that are not
 * files have a namespace or <>.
 */
function inputsOf(root: string, { metafile }: BuildResult<Options>): Input[] {
  return Object.entries(metafile.inputs).flatMap(([name, { format }]) => {
    const plain = name.replace(/ with \{.*\}$/, '').replace(/^medulla-file:/, '')
    if (/^(?:<|\(disabled\):|medulla-(?:native|shim):)/.test(plain)) return []
    return [{ path: resolve(root, plain), format }]
  })
}

/** The relative URL from the bundle of `main` to files/. */
function base(root: string, main: string, { entry }: EntryFile): string {
  if (main === resolve(root, entry)) return `./${FILES}/`
  return `./${'../'.repeat(logicalPath(root, main).split('/').length - 1)}`
}

async function failure(root: string, errors: Message[], cause: unknown): Promise<Refusal> {
  const esbuild = await import('esbuild')
  const shown = errors.slice(0, 5).map((error) => ({ ...error, pluginName: '' }))
  const frames = await esbuild.formatMessages(shown, { kind: 'error', color: false, terminalWidth: 100 })
  const hint = errors.map(({ text }) => hintFor(root, text)).find((one) => one !== undefined)
  return new Refusal('build-failed', frames.join('').trim(), hint, { cause })
}

function hintFor(root: string, text: string): string | undefined {
  if (/^\S+ is native: /.test(text)) return "ask for the hardware as a handle: robot({ led: 'output' }, ({ led }) => …)"
  const missing = /^Could not resolve "([^"]+)"/.exec(text)?.[1]
  const name = missing === undefined ? null : packageIn(missing)
  if (name === null || missing?.startsWith('#')) return undefined
  return isDeclared(root, name) ? `in ${root}: npm install` : `in ${root}: npm install ${name}`
}

function isDeclared(root: string, name: string): boolean {
  try {
    const read = parseJsonText(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, object | undefined>
    return [read.dependencies, read.devDependencies, read.optionalDependencies].some((list) => list && name in list)
  } catch {
    return false
  }
}

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false
