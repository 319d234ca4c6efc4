import { writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import type { BuildStatement } from '../../../shared/bundle/buildstatement.ts'
import { Refusal } from '../../../shared/errors.ts'
import { keyPath, signer } from '../../config.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { rebuildFiles } from '../program.ts'
import { identityOption, openSubject, type SubjectOptions, slotOption } from '../subject.ts'

interface Options extends SubjectOptions {
  source: string
  sign?: string
}

/** Differences that are printed; --json has all of them. */
const SHOWN = 20

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Proves that a bundle was built from its source: builds it again in a new folder, from the commit and the lock file\n' +
        'that the bundle names (git clone, npm ci), and compares every file. Without a file: the bundle that the robot runs.',
    )
    .argument('[file]', 'a bundle file, or the tar that age -d makes of one')
    .requiredOption('--source <dir|git>', 'the folder of the program, or its repository')
    .option(
      '--sign <file>',
      'if every file is the same: sign that with your key, as a builder, and write the statement into this file',
    )
    .addOption(identityOption())
    .addOption(slotOption())
    .addHelpText(
      'after',
      example(
        'medulla rebuild blink.medulla --source .',
        'medulla rebuild -d arm --source https://example.org/arm.git',
      ),
    )
    .action((file: string | undefined, _: unknown, own: Command) => {
      const options = own.opts<Options>()
      return run(() => rebuild(app, file, options, own.optsWithGlobals<Globals>()))
    })
}

async function rebuild(app: App, file: string | undefined, options: Options, globals: Globals): Promise<number> {
  const { where, info, files, manifest, release } = await openSubject(app, file, options, globals)
  const { differences } = await import('../../provenance/compare.ts')
  const built = await rebuildFiles(app, info, { source: options.source, takesStateOf: manifest.takesStateOf })
  const found = differences(files, new Map(built.files.map(({ name, bytes }) => [name, bytes])))
  const { program, version, h1 } = release
  const revision = info.vcs?.revision ?? null
  app.term.event({
    event: 'rebuilt',
    where,
    program,
    version,
    h1,
    revision,
    same: found.length === 0,
    differences: found,
  })
  for (const { file, where: place, bundle, rebuilt } of found.slice(0, SHOWN)) {
    app.term.line(
      place === null ? `${file}: only ${bundle === null ? 'rebuilt' : 'in the bundle'}` : `${file}: ${place}`,
    )
    if (place === null) continue
    app.term.line(`  bundle:  ${bundle}`)
    app.term.line(`  rebuilt: ${rebuilt}`)
  }
  if (found.length > SHOWN) app.term.line(`and ${found.length - SHOWN} more differences`)
  if (found.length > 0)
    throw notTheSame(
      where,
      found.map((each) => each.file),
      files.size,
    )
  app.term.line(
    `${where}: ${program} ${version} is what ${revision === null ? options.source : `commit ${revision}`} gives`,
  )
  app.term.line(`all ${files.size} files are the same: ${h1}`)
  if (options.sign !== undefined) await signStatement(app, options.sign, { program, version, h1 }, globals)
  return 0
}

async function signStatement(app: App, file: string, about: BuildStatement, { key }: Globals): Promise<void> {
  const { signBuild } = await import('../../../shared/bundle/buildstatement.ts')
  const own = await signer(keyPath(app.dir, key, app.env))
  await writeFile(file, `${JSON.stringify(await signBuild(about, own))}\n`)
  app.term.event({ event: 'signed', file, builder: own.fingerprint, ...about })
  app.term.line(`${file}: signed by ${own.fingerprint}`)
}

function notTheSame(where: string, names: readonly string[], all: number): Refusal {
  const files = new Set(names).size
  return new Refusal(
    'bad-hash',
    `${where} is not what its source gives: ${files} of ${all} files ${files === 1 ? 'differs' : 'differ'}`,
    'medulla inspect shows who signed it, and the versions of the tools that built it',
  )
}
