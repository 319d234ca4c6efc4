/** A step on the host failed: a build, or a machine that the host starts. `hint` says what to do next. */
export class BuildError extends Error {
  constructor(message, hint) {
    super(message)
    this.name = 'BuildError'
    this.hint = hint
  }
}
