import type { Command } from 'commander'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { clean, shellWord } from '../clean.ts'
import { identityOption, openSubject, type Subject, type SubjectOptions, slotOption } from '../subject.ts'
import { formatMs } from '../term.ts'

interface Options extends SubjectOptions {
  modules?: true
  hashes?: true
  sbom?: true
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'What a bundle was built from: program, commit, tools and npm modules, in the columns of go version -m.\n' +
        'Without a file: the bundle that the robot runs. Signature and hashes of the bundle are checked; what it says about\n' +
        'its source is a claim of its builder, which medulla rebuild proves.',
    )
    .argument('[file]', 'a bundle file, or the tar that age -d makes of one')
    .option('-m, --modules', 'list the npm modules, too')
    .option('--hashes', 'show the hash of the program and of each module')
    .option('--sbom', 'print a bill of materials (CycloneDX 1.6, JSON) instead')
    .addOption(identityOption())
    .addOption(slotOption())
    .addHelpText(
      'after',
      example(
        'medulla inspect blink.medulla',
        'medulla inspect -d arm --modules --hashes',
        'medulla inspect --sbom > sbom.json',
      ),
    )
    .action((file: string | undefined, _: unknown, own: Command) => {
      const options = own.opts<Options>()
      return run(() => inspect(app, file, options, own.optsWithGlobals<Globals>()))
    })
}

async function inspect(app: App, file: string | undefined, options: Options, globals: Globals): Promise<number> {
  const subject = await openSubject(app, file, options, globals)
  const { release, digest, signer, info, where, checkMs } = subject
  if (options.sbom === true) {
    const { billOfMaterials } = await import('../../provenance/sbom.ts')
    const text = billOfMaterials(info, release.h1)
    app.term.event(JSON.parse(text) as object)
    if (!app.term.json) app.term.raw(`${clean(text)}\n`)
    return 0
  }
  const { counter, created, expires, recipients, slot, h1 } = release
  app.term.event({
    event: 'inspected',
    where,
    digest,
    signer,
    release: { h1, counter, created, expires, recipients, slot },
    ...(checkMs === undefined ? {} : { checkMs }),
    ...info,
  })
  // not wrapped: each line has its columns, separated by tabs
  if (!app.term.json)
    app.term.raw(
      rowsOf(subject, options)
        .map((row) => `${row.map(clean).join('\t')}\n`)
        .join(''),
    )
  const { slot: of = 'main' } = options
  const [robot = ''] = where.split('/')
  const what = file === undefined ? `-d ${robot}${of === 'main' ? '' : ` --slot ${of}`}` : shellWord(file)
  app.term.next(`medulla verify ${what}`, `medulla rebuild ${what} --source DIR`)
  return 0
}

/** Rows with the words and columns of `go version -m`, and three of our own: release, signer and check. */
function rowsOf({ where, info, release, digest, signer, checkMs }: Subject, { modules, hashes }: Options): string[][] {
  const hash = (h1: string | null): string[] => (hashes === true && h1 !== null ? [h1] : [])
  const settings: Record<string, string> = { esbuild: info.tools.esbuild }
  for (const [key, value] of Object.entries({ node: info.node ?? info.tools.node, target: info.target })) {
    if (value != null) settings[key] = value
  }
  if (info.vcs !== null) {
    const { system, revision, time, folder, modified } = info.vcs
    Object.assign(settings, {
      vcs: system,
      'vcs.revision': revision,
      'vcs.time': time,
      'vcs.folder': folder,
      'vcs.modified': String(modified),
    })
  }
  return [
    [`${where}: medulla ${info.tools.medulla}`],
    ['', 'path', info.path],
    ['', 'mod', info.program, info.version, ...hash(release.h1)],
    ...(modules === true ? info.modules.map(({ name, version, h1 }) => ['', 'dep', name, version, ...hash(h1)]) : []),
    ['', 'release', digest],
    ['', 'signer', signer],
    ...(checkMs === undefined ? [] : [['', 'check', `unchanged at its last start, ${formatMs(checkMs)}`]]),
    ...Object.entries(settings).map(([key, value]) => ['', 'build', `${key}=${value}`]),
  ]
}
