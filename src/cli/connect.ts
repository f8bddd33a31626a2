import type { Command } from 'commander';
import { findAdminSocket } from '../config/admin-socket.ts';
import { type AdminClient, adminClient } from './client.ts';

/** A client for the daemon that a command line selects. The configuration is read only where it is needed. */
export async function connect(command: Command): Promise<AdminClient> {
  const { socket } = command.optsWithGlobals<{ socket?: string }>();
  const named = socket || process.env['VARVE_SOCKET'];
  if (named !== undefined && named !== '') return adminClient(named);
  const { configOf } = await import('./settings.ts');
  return adminClient(findAdminSocket(configOf(command).config));
}
