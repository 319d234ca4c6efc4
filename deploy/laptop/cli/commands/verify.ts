import { stat } from 'node:fs/promises'
import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { isBundle, verifyFolder } from '../program.ts'
import { identityOption, openSubject, type SubjectOptions, slotOption } from '../subject.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Checks that nothing was modified: the installed npm modules of a program, against its medulla.sum; a bundle file, or\n' +
        'with -d the bundle that the robot has on its disk, against its signature and hashes.',
    )
    .argument('[path]', 'folder, source file or bundle file (default: this folder; with -d: what the robot runs)')
    .addOption(identityOption())
    .addOption(slotOption())
    .addHelpText('after', example('medulla verify', 'medulla verify blink.medulla', 'medulla verify -d arm'))
    .action((path: string | undefined, _: unknown, own: Command) => {
      const globals = own.optsWithGlobals<Globals>()
      return run(() => verify(app, path, own.opts<SubjectOptions>(), globals))
    })
}

async function verify(app: App, path: string | undefined, options: SubjectOptions, globals: Globals): Promise<number> {
  const folder = path ?? (globals.device === undefined ? '.' : undefined)
  if (folder !== undefined && !(await isBundle(folder)) && !(await isTar(folder))) return modules(app, folder)
  const { where, files, release, digest, signer } = await openSubject(app, path, options, globals)
  const { program, version, h1 } = release
  app.term.event({ event: 'verified', ok: true, where, program, version, digest, signer, h1, files: files.size })
  app.term.line(`${where}: ${program} ${version}, signed by ${signer}`)
  app.term.line(`all ${files.size} files verified: ${h1}`)
  return 0
}

/** The opened content of a bundle, as `age -d` writes it, has no name of its own. */
const isTar = async (path: string): Promise<boolean> => path.endsWith('.tar') && (await stat(path)).isFile()

async function modules(app: App, folder: string): Promise<number> {
  const { modules, modified, unrecorded } = await verifyFolder(app, folder)
  app.term.event({ event: 'verified', ok: modified.length === 0, folder, modules, modified, unrecorded })
  for (const id of unrecorded) app.term.note(`${id} is not in medulla.sum; the next build records it`)
  for (const { name, version, downloaded, recorded, files } of modified) {
    app.term.line(`${name}@${version} was modified`)
    app.term.line(`  downloaded: ${downloaded}`)
    app.term.line(`  recorded:   ${recorded}`)
    if (files === null) app.term.line('  which files is not known: they were installed again since they were recorded')
    for (const { path, how } of files ?? []) app.term.line(`  ${how}: ${path}`)
  }
  if (modified.length > 0) {
    const were = modified.length === 1 ? 'was' : 'were'
    throw new Refusal(
      'bad-hash',
      `${modified.length} of ${modules} modules ${were} modified`,
      'npm ci downloads all modules again',
    )
  }
  app.term.line('all modules verified')
  return 0
}
