/** A GitHub-flavoured table; a bar in a cell would end the cell. */
export function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

export const code = (text: string): string => `\`${text}\``;

const region = (name: string) => new RegExp(`(<!-- generated: ${name} -->\n)[^]*?(<!-- end of ${name} -->)`);

/** The page with each region `<!-- generated: NAME -->` … `<!-- end of NAME -->` filled. Throws when a region is not there. */
export function fillRegions(page: string, regions: Record<string, string>): string {
  return Object.entries(regions).reduce((text, [name, content]) => {
    if (!region(name).test(text)) throw new Error(`The page has no region "${name}"`);
    return text.replace(region(name), (_, begin: string, end: string) => `${begin}\n${content}\n\n${end}`);
  }, page);
}

/** The lines of all `sh` blocks, with lines that end in a backslash put together; prompts and comments are left out. */
export function shellLines(page: string): string[] {
  return [...page.matchAll(/^```sh\n([^]*?)^```/gm)]
    .flatMap(([, block = '']) => block.replaceAll(/\\\n\s*/g, '').split('\n'))
    .map((line) => line.replace(/(^|\s)#.*$/, '').trim())
    .filter((line) => line !== '');
}

/** Targets of the page's links to files of this repository, without their fragments. */
export const fileLinks = (page: string): string[] =>
  [...page.matchAll(/\]\(([^)\s]+)\)|<img[^>]* src="([^"]+)"/g)]
    .map(([, link, image]) => (link ?? image ?? '').replace(/#.*$/, ''))
    .filter((link) => link !== '' && !/^[a-z]+:/.test(link));
