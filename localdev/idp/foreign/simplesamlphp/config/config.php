<?php
// SimpleSAMLphp's configuration. What differs from one start to the next is in settings.json.

$dir = dirname(__DIR__);
$settings = json_decode(file_get_contents($dir . '/settings.json'), true);

// Every service provider that was registered, as it describes itself.
$sources = [['type' => 'flatfile']];
foreach (glob($dir . '/sp/*.xml') as $file) {
    $sources[] = ['type' => 'xml', 'file' => $file];
}

$config = [
    'baseurlpath' => $settings['base'],
    'certdir' => $dir . '/cert/',
    'loggingdir' => $dir . '/log/',
    'datadir' => $dir . '/data/',
    'tempdir' => $dir . '/tmp/',
    'metadatadir' => $dir . '/metadata/',
    'metadata.sources' => $sources,
    'technicalcontact_name' => 'Nobody',
    'technicalcontact_email' => 'nobody@example.org',
    'timezone' => 'UTC',
    'secretsalt' => $settings['salt'],
    'auth.adminpassword' => bin2hex(random_bytes(16)), // nobody administers it
    'showerrors' => true,
    'errorreporting' => false,
    'logging.level' => SimpleSAML\Logger::WARNING,
    'logging.handler' => 'errorlog',
    'enable.saml20-idp' => true,
    'module.enable' => ['core' => true, 'saml' => true, 'exampleauth' => true],
    'session.cookie.secure' => true,
    'session.cookie.samesite' => 'None', // requests come by POST from other sites
    'session.phpsession.cookiename' => 'SimpleSAML',
    'session.phpsession.savepath' => $dir . '/sessions',
    'store.type' => 'phpsession',
    'language.available' => ['en'],
    'language.default' => 'en',
    'theme.use' => 'default',
    'authproc.idp' => [],
];
