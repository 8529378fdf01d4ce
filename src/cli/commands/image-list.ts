import { listImages, otherPlatform } from '../../app/image-list.ts';
import type { Handler } from '../program.ts';
import { jsonLine } from '../render/json.ts';
import { formatAge, formatBytes } from '../render/size.ts';
import { renderTable } from '../render/table.ts';
import { readTerminal } from '../render/terminal.ts';

const short = (digest: string): string => digest.slice(digest.indexOf(':') + 1).slice(0, 12);

export const list: Handler<{ json?: boolean; digests?: boolean; quiet?: boolean }> = async (session, _, options) => {
  const images = listImages(session.place);
  if (options.json === true) session.stdout.write(`${jsonLine(images)}\n`);
  else if (options.quiet === true) {
    const digests = [...new Set(images.map(({ digest }) => (options.digests === true ? digest : short(digest))))];
    session.stdout.write(digests.map((digest) => `${digest}\n`).join(''));
  } else if (images.length === 0) session.stdout.write('no images in the store\n');
  else {
    const now = Date.now();
    const rows = images.map(({ reference = '<none>', digest, sourceDigest, platform, created, bytes }) => [
      reference,
      options.digests === true ? digest : short(digest),
      ...(options.digests === true ? [sourceDigest === digest ? '' : sourceDigest] : []),
      otherPlatform(platform),
      formatAge(created, now),
      bytes === undefined ? '' : formatBytes(bytes),
    ]);
    const registry = options.digests === true ? ['DIGEST OF ITS REGISTRY'] : [];
    const header = ['REFERENCE', 'DIGEST', ...registry, 'PLATFORM', 'CREATED', 'SIZE'];
    session.stdout.write(renderTable(header, rows, readTerminal(session.stdout, session.place.env)));
  }
  return 0;
};
