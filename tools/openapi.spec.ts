import { createConfig, lintFromString } from '@redocly/openapi-core';
import { Spectral } from '@stoplight/spectral-core';
import { oas } from '@stoplight/spectral-rulesets';
import { expect, it } from 'vitest';
import { openApi } from '../libs/contracts/src/index.js';

const text = JSON.stringify(openApi(), undefined, 2);

it('redocly has nothing to say of the OpenAPI document', async () => {
  const config = await createConfig({ extends: ['recommended-strict'] });
  const problems = await lintFromString({ source: text, absoluteRef: 'openapi.json', config });
  expect(
    problems.map(({ ruleId, severity, message, location }) => [severity, ruleId, message, location[0]?.pointer]),
  ).toEqual([]);
});

it('spectral has nothing to say of it either', async () => {
  const spectral = new Spectral();
  spectral.setRuleset({
    extends: [[oas, 'all']],
    rules: {
      // The licence has its SPDX identifier, which stands in its place.
      'license-url': 'off',
      // The document comes from an installation, whose operator we do not know.
      'contact-properties': 'off',
      // The tags are in the order in which a reader needs them.
      'openapi-tags-alphabetical': 'off',
    },
  });
  const found = await spectral.run(text);
  expect(found.map(({ code, message, path }) => [code, message, path.join('/')])).toEqual([]);
});
