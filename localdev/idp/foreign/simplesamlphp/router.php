<?php
// PHP's own server asks this for every request: /module.php/core/login is the script www/module.php with the rest as its path.

$settings = json_decode(file_get_contents(__DIR__ . '/settings.json'), true);
$www = $settings['program'] . '/www';

if (!preg_match('#^(/[A-Za-z0-9_/-]+\.php)(/[^?]*)?$#', parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH), $at) || !is_file($www . $at[1])) {
    return false; // a picture, or nothing at all
}
if (is_file(__DIR__ . '/EncryptedAssertion.php')) {
    require_once $settings['program'] . '/lib/_autoload.php';
    require_once __DIR__ . '/EncryptedAssertion.php';
}
$_SERVER['SCRIPT_NAME'] = $at[1];
$_SERVER['SCRIPT_FILENAME'] = $www . $at[1];
$_SERVER['PHP_SELF'] = $at[1] . ($at[2] ?? '');
$_SERVER['PATH_INFO'] = $at[2] ?? '';
$_SERVER['HTTPS'] = 'on'; // there is a proxy before us that speaks TLS
chdir(dirname($www . $at[1]));
require $www . $at[1];
