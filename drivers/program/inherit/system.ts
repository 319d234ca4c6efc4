/**
 * The system calls that some handles need beyond Node's own. Only an interface, so that a program's bundle contains no
 * native code: drivers/owner/linux/system.ts implements it with koffi, and the loader passes that to a child whose
 * grants need it.
 */
export interface System {
  /**
   * ioctl(2) with a pointer to `argument`, which the kernel reads and may write. Returns the call's result; throws an
   * Error with `code` (`EPERM`, `EBUSY` …) as node:fs does.
   */
  ioctl(fd: number, request: number, argument: Uint8Array): number
  /** fcntl(2) F_DUPFD_CLOEXEC: another descriptor of the same open file, close-on-exec. Absent in a rehearsal. */
  duplicate?(fd: number): number
  /** Address of a buffer, for structures with pointers. The caller must keep the buffer, and not resize it. */
  address(bytes: Uint8Array): bigint
}
